"""A Node's policy as its root holds it, and the rule by which labels follow from it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Mapping, Optional, Union

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext import ExtImage
from respin.formats.squashfs.root import SquashfsRoot
from respin.node.places import FACTS
from respin.node.selinux import PolicyId, describe, read_policy
from respin.policy.labels import judge_labels, label_of, labels_of_facts, with_labels
from respin.root.delta import Attributes, Change, Delta, Entry, Kind
from respin.safepath import parents
from respin.strictjson import Fields
from tests.support.images import Link, build_ext, build_squashfs, debugfs, write_tree

CONTEXTS = "/etc/selinux/{}/contexts/files/file_contexts"
TEXT = b"/.* user:role:default_t:s0\n/usr/bin/.* -- user:role:bin_t:s0\n/tmp/.* <<none>>\n"
NAME = "security.selinux"


def policy_tree(kind: str = "targeted", config: Optional[bytes] = None, **ends: bytes) -> Dict[str, Union[bytes, Link]]:
    """The files of a policy; ``ends`` by the end of the name of a text (an underscore for the dot)."""
    start = CONTEXTS.format(kind)
    tree: Dict[str, Union[bytes, Link]] = {start: TEXT}
    tree.update({f"{start}.{end}": text for end, text in ends.items()})
    return tree if config is None else {**tree, "/etc/selinux/config": config}


@pytest.fixture(params=["ext", "squashfs"])
def root_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Mapping[str, Union[bytes, Link]]], Any]:
    """Makes a root with these files."""

    def make(tree: Mapping[str, Union[bytes, Link]]) -> Any:
        image = tmp_path / "image"
        if request.param == "ext":
            build_ext(image, tree, size_mib=4)
            return ExtImage.open(BytesView(image.read_bytes(), "root"))
        build_squashfs(image, write_tree(tmp_path / "tree", tree))
        return SquashfsRoot.open(BytesView(image.read_bytes(), "root"))

    return make


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("targeted", None),
        ("targeted", b"SELINUX=enforcing\n"),
        ("mls", b"SELINUXTYPE=mls\n"),
        ("mls", b"# SELINUXTYPE=targeted\n\n   selinuxtype= mls  \r\nSELINUX=permissive"),
        ("mls", b"SELINUXTYPE=targeted\nSELINUXTYPE=mls\n"),
        ("targeted", b"SELINUXTYPE=\n"),
    ],
)
def test_which_policy_a_root_has(root_of: Callable[[Any], Any], kind: str, config: Optional[bytes]) -> None:
    policy = read_policy(root_of(policy_tree(kind, config, local=b"/x user:role:local_t:s0\n")))
    assert policy is not None
    local = b"/x user:role:local_t:s0\n"
    files = {
        CONTEXTS.format(kind): hashlib.sha256(TEXT).hexdigest(),
        CONTEXTS.format(kind) + ".local": hashlib.sha256(local).hexdigest(),
    }
    assert policy.id == PolicyId(kind, files)
    assert policy.label("/usr/bin/x", Kind.FILE) == b"user:role:bin_t:s0\0"
    assert policy.label("/usr/bin/x", Kind.DIRECTORY) == b"user:role:default_t:s0\0"
    assert policy.label("/x", Kind.SYMLINK) == b"user:role:local_t:s0\0"
    assert policy.label("/tmp/x", Kind.FIFO) is None
    assert PolicyId.from_fields(Fields(policy.id.to_json(), where="x", finding="x")) == policy.id


def test_substitutions_and_a_link_on_the_way(root_of: Callable[[Any], Any]) -> None:
    tree = policy_tree("real", subs=b"/alias /usr/bin\n", subs_dist=b"/bin /usr/bin\n")
    policy = read_policy(root_of({**tree, "/etc/selinux/targeted": Link("real")}))
    assert policy is not None
    assert policy.label("/alias/x", Kind.FILE) == policy.label("/bin/x", Kind.FILE) == b"user:role:bin_t:s0\0"
    assert len(policy.id.files) == 3


@pytest.mark.parametrize(
    "tree",
    [
        {"/etc/hostname": b"x"},
        {"/etc/selinux/config": b"SELINUX=disabled\nSELINUXTYPE=targeted\n"},
        policy_tree("other"),
        {CONTEXTS.format("targeted") + ".local": TEXT},
        {"/etc/selinux/targeted/policy/readme": b""},
        {CONTEXTS.format("targeted") + "/": b""},
    ],
    ids=["nothing", "only a configuration", "of another type", "only local ones", "no binary policy", "a directory"],
)
def test_a_root_without_a_policy(root_of: Callable[[Any], Any], tree: Any) -> None:
    assert read_policy(root_of(tree)) is None


@pytest.mark.parametrize(
    ("tree", "error", "finding"),
    [
        ({"/etc/selinux/targeted/policy/policy.33": b""}, UnsupportedError, "selinux-policy"),
        (policy_tree("x", b"SELINUXTYPE=../x\n"), UnsupportedError, "selinux-policy"),
        (policy_tree("x", b"SELINUXTYPE=..\n"), UnsupportedError, "selinux-policy"),
        (policy_tree(local=b"\n/x\n"), MalformedError, "selinux-contexts"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused(
    root_of: Callable[[Any], Any], tree: Any, error: type, finding: str
) -> None:
    root = root_of(tree)
    with pytest.raises(error) as caught:
        read_policy(root)
    assert caught.value.finding == finding
    said = describe(root)
    assert said is not None
    assert said["problem"] == str(caught.value)


def test_what_is_said_of_a_node(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", {**policy_tree(config=b"SELINUX=permissive\n"), "/usr/": b""}, size_mib=4)

    def said() -> Any:
        return describe(ExtImage.open(BytesView(image.read_bytes(), "root")))

    assert said() == {"type": "targeted", "mode": "permissive", "labelled": False, "problem": None}
    debugfs(image, f"ea_set /usr {NAME} user:role:type")
    assert said() == {"type": "targeted", "mode": "permissive", "labelled": True, "problem": None}
    debugfs(image, f"rm {CONTEXTS.format('targeted')}")
    assert said() == {"type": None, "mode": "permissive", "labelled": True, "problem": None}
    debugfs(image, "rm /etc/selinux/config", f"ea_rm /usr {NAME}")
    assert said() is None


DEFAULT, BIN, OWN = b"user:role:default_t:s0\0", b"user:role:bin_t:s0\0", b"user:role:own_t:s0"


def attributes(kind: Kind = Kind.FILE, label: Optional[bytes] = None, **more: bytes) -> Attributes:
    xattrs = dict(more) if label is None else {**more, NAME: label}
    return Attributes(kind, 0o644, 0, 0, 0, xattrs=xattrs)


def entry(path: str, new: Optional[Attributes], old: Optional[Attributes] = None, group: Optional[str] = None) -> Entry:
    change = Change.REMOVED if new is None else Change.ADDED if old is None else Change.CHANGED
    return Entry(path, change, new, old, group)


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """A plan for a plugin that owns /usr/bin/owned, as far as labels are concerned."""
    image = build_ext(tmp_path / "image", {**policy_tree(), "/usr/bin/old": b"", "/usr/bin/bare": b""}, size_mib=4)
    (tmp_path / "own").write_bytes(OWN)
    debugfs(image, f"ea_set -f {tmp_path / 'own'} /usr/bin/old {NAME}", "ea_set /usr/bin/old user.note kept")
    root = ExtImage.open(BytesView(image.read_bytes(), "root"))
    return SimpleNamespace(
        files={"/usr/bin/owned": None},
        selinux=read_policy(root),
        node=SimpleNamespace(root=root, image=SimpleNamespace(inner_path="/ext3fs.img")),
    )


CASES = {
    "new": (entry("/usr/bin/new", attributes()), BIN),
    "a new directory": (entry("/usr/bin/new", attributes(Kind.DIRECTORY)), DEFAULT),
    "left alone": (entry("/tmp/new", attributes()), None),
    "the vendor's": (entry("/usr/bin/old", attributes(), attributes(label=OWN)), OWN),
    "the vendor's without a label": (entry("/usr/bin/bare", attributes(), attributes()), None),
    "of another kind now": (entry("/usr/bin/old", attributes(Kind.SYMLINK), attributes(label=OWN)), DEFAULT),
    "replaced by a package": (entry("/usr/bin/owned", attributes(), attributes(label=OWN)), BIN),
    "a second name": (entry("/usr/share/new", attributes(), None, "/usr/bin/new"), BIN),
}


@pytest.mark.parametrize("case", CASES)
def test_which_label_a_path_gets(plan: Any, case: str) -> None:
    one, wanted = CASES[case]
    assert label_of(one, plan) == wanted
    (labelled,) = with_labels(Delta((one,)), plan).entries
    assert labelled.new is not None
    if case != "replaced by a package":  # which this root does not have
        assert labelled.new.xattrs.get(NAME) == wanted
        assert list(judge_labels(Delta((labelled,)), plan)) == []
    if one.old is not None and one.path == "/usr/bin/old":
        assert labelled.old is not None
        assert labelled.old.xattrs == {NAME: OWN}
    for wrong in (None, b"", OWN, DEFAULT, BIN, (wanted or b"") + b"\0"):
        bad = Delta((entry(one.path, attributes(one.kind, wrong), one.old, one.link_group),))
        found = [(finding.id, finding.place) for finding in judge_labels(bad, plan)]
        assert found == ([] if wrong == wanted else [("selinux-label", one.path)])


def test_other_attributes_stay_and_what_is_gone_needs_no_label(plan: Any) -> None:
    gone = entry("/usr/bin/old", None, attributes())
    kept = entry("/usr/bin/new", attributes(label=OWN, **{"security.capability": b"x"}))
    found = with_labels(Delta((kept, gone)), plan).entries
    assert found[0].new is not None
    assert found[0].new.xattrs == {NAME: BIN, "security.capability": b"x"}
    assert found[1] == entry("/usr/bin/old", None, attributes(label=OWN))
    assert list(judge_labels(Delta(found), plan)) == []


def test_of_a_flat_root_all_attributes_of_the_vendors_files_are_filled_in(plan: Any) -> None:
    one = entry("/usr/bin/old", attributes(**{"security.capability": b"x"}), attributes())
    for inner, others in (("/ext3fs.img", {}), ("", {"user.note": b"kept"})):
        plan.node.image.inner_path = inner
        (found,) = with_labels(Delta((one,)), plan).entries
        assert found.old is not None
        assert found.new is not None
        assert found.old.xattrs == {NAME: OWN, **others}
        assert found.new.xattrs == {NAME: OWN, **others, "security.capability": b"x"}


def test_respins_own_file_gets_its_label(plan: Any) -> None:
    found = labels_of_facts(plan)
    assert found[FACTS] == DEFAULT
    assert set(found) == {FACTS, *parents(FACTS)}
    plan.selinux = None
    assert labels_of_facts(plan) == {}


def test_a_node_without_a_policy_keeps_what_labels_there_are(plan: Any) -> None:
    plan.selinux = None
    assert label_of(CASES["the vendor's"][0], plan) == OWN
    assert label_of(CASES["new"][0], plan) is None
    labelled = Delta((entry("/usr/bin/new", attributes(label=BIN)),))
    assert [finding.id for finding in judge_labels(labelled, plan)] == ["selinux-label"]


def test_a_hundred_thousand_labels_take_seconds(plan: Any) -> None:
    before = time.process_time()
    for number in range(100_000):
        plan.selinux.label(f"/usr/bin/program-{number % 50_000}", Kind.FILE)
    assert time.process_time() - before < 20
    assert os.fsencode(plan.selinux.label("/usr/bin/program-1", Kind.FILE).decode()) == BIN
