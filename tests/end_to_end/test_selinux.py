"""Nodes with labels on everything: what is new gets the label that libselinux gives it, by the Node's own policy."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import pytest

from respin.byteview import BytesView
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.merge import Put
from tests.end_to_end.conftest import GOOD_FILES, sha256
from tests.support.attacker import Forgery, evil_build, evil_flat_build
from tests.support.forge import Forge, respin
from tests.support.images import extracted, nested_image, run, unsquash
from tests.support.keys import KeyWorld
from tests.support.selinux import NAME, Policy, small_policy, with_files, with_labels
from tests.support.variants import flat_variant, variant

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="packing and unpacking a root with its owners takes root"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE"),
]

PACK = ("-comp", "gzip", "-Xcompression-level", "1")


def context(name: str, level: str = "s0") -> str:
    return f"system_u:object_r:{name}_t:{level}"


TEXTS = {
    "": f"""\
/.*                              {context("default")}
/                           -d   {context("root")}
/etc(/.*)?                       {context("etc")}
/etc/good/.*\\.conf          --   {context("good_conf")}
/etc/passwd[-+]?            --   {context("passwd_file")}
/usr(/.*)?                       {context("usr")}
/usr/(.*/)?libexec(/.*)?         {context("bin")}
/usr/libexec/good/[^/]+     --   {context("good_exec")}
/usr/share/respin(/.*)?          {context("respin")}
/usr/share/good/skipped     --   <<none>>
/usr/lib(/.*)?                   {context("lib")}
/usr/lib/modules(/.*)?           {context("modules_object", "s0:c1,c2")}
/usr/lib/systemd/system(/.*)?    {context("systemd_unit_file")}
/var(/.*)?                       {context("var")}
""".encode(),
    ".homedirs": f"/home/[^/]+(/.*)?  {context('user_home')}\n".encode(),
    ".local": f"/usr/share/good/data  {context('local')}\n".encode(),
    ".subs": b"/usr/share/alias /usr/libexec/good\n",
    ".subs_dist": b"/lib64 /usr/lib\n/etc/systemd/system /usr/lib/systemd/system\n",
}
# Labels that the policy would not give: the vendor's all the same.
SPECIAL = {
    "/usr/bin/env": context("vendors_own").encode() + b"\0",
    "/etc/ld.so.cache": context("vendors_cache").encode() + b"\0",
    "/etc/passwd": context("vendors_users").encode(),  # without a zero byte at its end, as some tools write it
}
FILES = {
    **GOOD_FILES,
    "/usr/share/good/skipped": "no label\n",
    "/usr/share/alias/tool": "#!/bin/sh\n",
    "/usr/lib/systemd/system/good.service": "[Service]\nExecStart=/bin/true\n",
}
WHERE = "/etc/selinux/small/contexts/files/file_contexts"


@dataclass(frozen=True)
class World:
    """The labelled Node, by which policy (None: it has none), the plugin, the respun ISO, and what made them."""

    kind: str
    stock: Path
    plugin: Path
    output: Path
    forge: Forge
    policy: Policy
    labels: Mapping[str, Mapping[str, Optional[bytes]]]  # of "stock" and "output", by path

    @property
    def flat(self) -> bool:
        return self.kind == "flat"


@pytest.fixture(
    scope="module",
    params=[
        "nested",
        pytest.param("flat", marks=pytest.mark.slow),
        pytest.param("without a policy", marks=pytest.mark.slow),
    ],
)
def world(
    request: pytest.FixtureRequest, key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
) -> World:
    """One respin for all tests."""
    tmp = tmp_path_factory.mktemp("selinux")
    policy = small_policy(tmp / "policy", "small", TEXTS)
    put = with_files(policy.files if request.param != "without a policy" else {}, tmp / "files")
    label = with_labels(policy.label, SPECIAL, tmp / "labels")
    stock = variant(stock_iso, tmp, PACK, lambda image: (put(image), label(image)))
    if request.param == "flat":
        (tmp / "flat").mkdir()
        stock = flat_variant(stock, tmp / "flat", PACK)
    forge = Forge(key_world, stock, tmp)
    plugin = forge.plugin(
        "good",
        files=FILES,
        directives={"/usr/libexec/good/tool": "%attr(0755,root,root) %caps(cap_net_raw=ep)"},
        sections="%pre\nuseradd -r -M -s /usr/sbin/nologin good\n",
        effects='users = ["good"]\ngroups = ["good"]\nunits = ["good.service"]',
    )
    done = forge.build(tmp / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    labels = {name: labels_in(iso, tmp / name) for name, iso in (("stock", stock), ("output", tmp / "out.iso"))}
    return World(request.param, stock, plugin, tmp / "out.iso", forge, policy, labels)


def labels_in(iso: Path, directory: Path) -> Dict[str, Optional[bytes]]:
    """The labels of everything in an ISO's root as other programs read them."""
    mount = directory / "mount"
    mount.mkdir(parents=True)
    extracted(iso, "/LiveOS/squashfs.img", directory / "image")
    if b"ext3fs.img" in run("unsquashfs", "-l", directory / "image"):
        image = nested_image(iso, directory / "nested")
        run("fuse2fs", "-o", "ro", image, mount)
    else:
        run("unsquashfs", "-q", "-n", "-f", "-d", mount, directory / "image")
    try:
        return {path: label for path, label in walk(mount)}
    finally:
        if os.path.ismount(mount):
            run("umount", mount)
        shutil.rmtree(directory)


def walk(top: Path) -> "list[tuple[str, Optional[bytes]]]":
    found = [("/", label_at(top))]
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = Path(directory, name)
            found.append((f"/{path.relative_to(top)}", label_at(path)))
    return found


def label_at(path: Path) -> Optional[bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return os.getxattr(path, NAME, follow_symlinks=False) if NAME in names else None


def test_everything_new_has_the_label_that_libselinux_gives(world: World) -> None:
    before, after = world.labels["stock"], world.labels["output"]
    delta = claims(world)["predicate"]["respin_changes"]
    added = {one["path"]: one["new"]["kind"] for one in delta if one["change"] == "added"}
    assert set(added) == set(after) - set(before)
    kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    for path, kind in added.items():
        wanted = None if world.kind == "without a policy" else world.policy.label(path, kinds[kind])
        assert after[path] == wanted, path
    if world.kind == "without a policy":
        return
    # Said by hand, too.
    for path, name in {
        "/usr/share/good/data": "local",
        "/usr/share/good": "usr",
        "/etc/good/good.conf": "good_conf",
        "/usr/libexec/good/tool": "good_exec",
        "/usr/libexec/good": "bin",
        "/usr/share/alias/tool": "good_exec",
        "/usr/lib/systemd/system/good.service": "systemd_unit_file",
        "/usr/share/respin/facts.json": "respin",
    }.items():
        assert after[path] == context(name).encode() + b"\0", path
    assert after["/usr/share/good/skipped"] is None


def test_what_the_vendor_labelled_keeps_its_label(world: World) -> None:
    before, after = world.labels["stock"], world.labels["output"]
    assert None not in before.values()
    assert {path: label for path, label in after.items() if path in before} == before
    changed = {one["path"] for one in claims(world)["predicate"]["respin_changes"] if one["change"] == "changed"}
    assert {"/etc/passwd", "/var/lib/rpm/rpmdb.sqlite"} <= changed
    assert before["/etc/passwd"] == SPECIAL["/etc/passwd"]


def claims(world: World) -> Any:
    """The statement."""
    run(
        "xorriso",
        "-osirrox",
        "on",
        "-indev",
        world.output,
        "-extract",
        "/respin.json",
        world.forge.path / "respin.json",
    )
    return json.loads((world.forge.path / "respin.json").read_text())


def test_the_statement_names_the_file_contexts(world: World) -> None:
    said = claims(world)["predicate"].get("respin_selinux")
    if world.kind == "without a policy":
        assert said is None
        return
    digests = {f"{WHERE}{end}": hashlib.sha256(text).hexdigest() for end, text in TEXTS.items()}
    assert said == {"type": "small", "file_contexts": digests}


def test_verified_restored_and_built_again(world: World, tmp_path: Path) -> None:
    for base in (None, world.stock):
        done = world.forge.verify(world.output, base=base)
        assert done.code == 0, done.err
    done = respin("restore", world.output, "-o", tmp_path / "stock.iso")
    assert done.code == 0, done.err
    assert sha256(tmp_path / "stock.iso") == sha256(world.stock)
    trust = ("--trust", world.forge.keys.trust)
    done = respin("reproduce", world.output, "--plugin", world.plugin, *trust, "--json")
    assert done.code == 0, f"{done.out} {done.err}"


def test_verified_without_a_restore_map(world: World, tmp_path: Path) -> None:
    done = world.forge.build(tmp_path / "out.iso", world.plugin, no_restore=True)
    assert done.code == 0, done.err
    assert world.forge.verify(tmp_path / "out.iso", base=None).code == 0


def test_inspected(world: World) -> None:
    without = world.kind == "without a policy"
    policy = {"type": None if without else "small", "mode": None if without else "enforcing"}
    for iso in (world.stock, world.output):
        assert respin("inspect", iso, "--json").json["node"]["selinux"] == {**policy, "labelled": True, "problem": None}
        said = respin("inspect", iso).out
        wanted = "no policy with file contexts" if without else "policy small, enforcing"
        assert re.search(rf"^SELinux +{wanted}; the vendor's files are labelled$", said, re.MULTILINE), said


def test_the_stock_example_node_has_no_selinux(stock_iso: Path) -> None:
    assert respin("inspect", stock_iso, "--json").json["node"]["selinux"] is None
    assert "SELinux" not in respin("inspect", stock_iso).out


def test_compared_with_its_stock(world: World) -> None:
    """Only what the plugin changed: no label of the vendor's."""
    found = respin("diff", world.stock, world.output, "--json").json["sections"]["files"]["differences"]
    assert {one["name"] for one in found} == {one["path"] for one in claims(world)["predicate"]["respin_changes"]}
    assert not [one["name"] for one in found if one["change"] == "changed" and "xattrs" in one["differs"]]


def test_labels_that_differ_are_shown(world: World, stock_iso: Path) -> None:
    if world.kind != "without a policy":
        pytest.skip("one Node is enough")
    said = respin("diff", stock_iso, world.stock, "--all").out
    assert f"~ /usr/bin/env  label no label -> {context('vendors_own')}" in said, said[:2000]


LABELS = {
    "another": context("etc").encode() + b"\0",
    "without its end": context("local").encode(),
    "empty": b"",
    "none": None,
}


def evil(world: World, output: Path, path: str, label: Optional[bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A respin whose author gave the file at ``path`` another label."""
    if not world.flat:
        value = output.with_suffix(".label")
        value.write_bytes(label or b"")
        command = f'ea_rm "{path}" {NAME}' if label is None else f'ea_set -f {value} "{path}" {NAME}'
        return evil_build(world.forge, world.plugin, output, [command], monkeypatch)
    image = output.with_suffix(".squashfs")
    extracted(world.output, "/LiveOS/squashfs.img", image)
    listed = run("unsquashfs", "-lln", "-d", "", image, path.lstrip("/")).decode().splitlines()
    line = next(line.split() for line in listed if line.endswith(f" {path}"))
    (tmp := output.with_suffix(".tree")).mkdir()
    run("unsquashfs", "-q", "-n", "-f", "-d", tmp, image, path.lstrip("/"))
    status = os.lstat(f"{tmp}{path}")
    uid, gid = (int(part) for part in line[1].split("/"))
    content = BytesView(unsquash(image, path), path)
    put = Put(path, Kind.FILE, stat.S_IMODE(status.st_mode), uid, gid, int(status.st_mtime), content=content)
    others = {name: os.getxattr(f"{tmp}{path}", name) for name in os.listxattr(f"{tmp}{path}") if name != NAME}
    put = replace(put, xattrs={**others, **({} if label is None else {NAME: label})})
    shutil.rmtree(tmp)
    image.unlink()
    return evil_flat_build(world.forge, world.plugin, output, [put], monkeypatch)


def refusal(world: World, iso: Path) -> str:
    done = world.forge.verify(iso, base=None)
    assert done.code == 4, f"{done.code} {done.out} {done.err}"
    return str(done.json["error"]["finding"])


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in ("another", "none") else pytest.mark.slow) for what in LABELS]
)
def test_a_plugins_file_with_another_label(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    label = LABELS[what]
    if world.kind == "without a policy" and label is None:
        pytest.skip("that is right there")
    iso = evil(world, tmp_path / "evil.iso", "/usr/share/good/data", label, monkeypatch)
    assert refusal(world, iso) == "selinux-label"


def test_the_right_label_is_no_attack(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests around this one would prove nothing."""
    label = world.labels["output"]["/usr/share/good/data"]
    iso = evil(world, tmp_path / "plain.iso", "/usr/share/good/data", label or b"", monkeypatch)
    if world.kind == "without a policy":
        assert refusal(world, iso) == "selinux-label"
    else:
        assert world.forge.verify(iso, base=None).code == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/env", "vendor-path-changed"),
        ("/etc/passwd", "selinux-label"),
        pytest.param("/usr/share/respin/facts.json", "selinux-label", marks=pytest.mark.slow),
    ],
)
def test_another_label_where_no_plugin_has_a_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str
) -> None:
    iso = evil(world, tmp_path / "evil.iso", path, context("evil").encode() + b"\0", monkeypatch)
    assert refusal(world, iso) == expected


def test_a_statement_about_other_file_contexts(world: World, tmp_path: Path) -> None:
    forgery = Forgery(world.output, tmp_path / "forged.iso", world.forge.keys)
    raw = forgery.read("/respin.json")
    if world.kind == "without a policy":
        pytest.skip("it names none")
    digest = hashlib.sha256(TEXTS[""]).hexdigest().encode()
    assert raw.count(digest) == 1
    forgery.write("/respin.json", raw.replace(digest, hashlib.sha256(b"").hexdigest().encode()))
    done = world.forge.verify(forgery.finish(), base=None)
    assert (done.code, done.json["error"]["finding"]) == (3, "selinux-policy")


@pytest.mark.parametrize(
    "path",
    [
        f"{WHERE}.other",
        "/etc/selinux/small/policy/policy.99",
        "/var/lib/selinux/small/active/modules/400/x/cil",
    ],
)
def test_a_plugin_does_not_bring_policy(world: World, tmp_path: Path, path: str) -> None:
    plugin = world.forge.plugin("policy", files={path: "x\n"})
    done = world.forge.build(tmp_path / "out.iso", plugin, json=True)
    assert (done.code, done.json["error"]["finding"]) == (4, "protected-path"), done.out
    assert not (tmp_path / "out.iso").exists()


def test_the_kernel_shows_the_labels(world: World, tmp_path: Path) -> None:
    if not world.flat:
        pytest.skip("the nested image was read by fuse2fs")
    extracted(world.output, "/LiveOS/squashfs.img", tmp_path / "image")
    (tmp_path / "mount").mkdir()
    command = ["mount", "-o", "loop,ro", tmp_path / "image", tmp_path / "mount"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop mount of this squashfs here: {done.stderr.decode().strip()}")
    try:
        shown = dict(walk(tmp_path / "mount"))
    finally:
        run("umount", tmp_path / "mount")
    if not any(shown.values()):
        pytest.skip("this kernel's squashfs shows no extended attributes")
    assert shown == world.labels["output"]
