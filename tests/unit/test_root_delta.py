"""The typed delta as data, and how it is computed from three directories that stand for the overlay's layers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Dict, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.digest import sha256_hex
from respin.errors import MalformedError
from respin.root.compare import EPHEMERA, Comparison
from respin.root.delta import Attributes, Change, Delta, Entry, Kind

EPOCH = 1_700_000_000

attributes = st.builds(
    Attributes,
    kind=st.sampled_from(Kind),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mtime=st.integers(-(2**31), 2**34),
    xattrs=st.dictionaries(st.text(min_size=1, max_size=9), st.binary(max_size=9), max_size=3),
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(min_size=1, max_size=12), st.tuples(attributes, attributes, st.sampled_from(Change))))
def test_json_round_trip(found: Mapping[str, "tuple[Attributes, Attributes, Change]"]) -> None:
    entries = []
    for path in sorted(found):
        new, old, change = found[path]
        entries.append(
            Entry(path, change, None if change is Change.REMOVED else new, None if change is Change.ADDED else old, "g")
        )
    delta = Delta(tuple(entries))
    assert Delta.from_json(json.loads(json.dumps(delta.to_json()))) == delta


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["path", "change", "new", "old", "kind", "mode", "uid", "gid", "mtime", "xattrs", "entries"]),
        inner, max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(json_values)
def test_other_json_is_malformed(value: object) -> None:
    try:
        delta = Delta.from_json({"entries": [value]})
    except MalformedError:
        return
    assert len(delta) == 1


def test_order_and_form_are_held() -> None:
    new = Attributes(Kind.FILE, 0o644, 0, 0, 0)
    with pytest.raises(MalformedError):
        Delta((Entry("/b", Change.ADDED, new), Entry("/a", Change.ADDED, new)))
    with pytest.raises(MalformedError):
        Delta((Entry("/a", Change.ADDED, new), Entry("/a", Change.ADDED, new)))
    with pytest.raises(MalformedError):
        Entry("/a", Change.REMOVED, new)
    with pytest.raises(MalformedError):
        Entry("/a", Change.CHANGED, new)


class Layers:
    """Three directories; ``put`` writes into the upper layer and what is merged, as overlayfs would."""

    def __init__(self, tmp: Path, vendor: Dict[str, str]) -> None:
        self.lower, self.upper, self.merged = (tmp / name for name in ("lower", "upper", "merged"))
        for top in (self.lower, self.upper, self.merged):
            top.mkdir()
        for path, text in vendor.items():
            for top in (self.lower, self.merged):
                self._write(top, path, text)

    @staticmethod
    def _write(top: Path, path: str, text: str) -> None:
        place = top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def put(self, path: str, text: str) -> None:
        for top in (self.upper, self.merged):
            self._write(top, path, text)

    def touch_directory(self, path: str) -> None:
        (self.upper / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def delta(self, **owned: int) -> Delta:
        mtimes = {f"/{name}": mtime for name, mtime in owned.items()}
        comparison = Comparison(str(self.lower), str(self.upper), str(self.merged))
        return comparison.delta(dbpath="/var/lib/rpm", owned_mtimes=mtimes, epoch=EPOCH)


def paths(delta: Delta) -> "list[tuple[str, str]]":
    return [(entry.path, entry.change.value) for entry in delta]


def test_added_changed_removed(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"/d/a": "a", "/d/b": "b", "/d/e/f": "f", "/same": "s"})
    layers.put("/d/a", "A")
    layers.put("/new/x", "x")
    (layers.merged / "d/b").unlink()
    (layers.merged / "d/e/f").unlink()
    (layers.merged / "d/e").rmdir()
    delta = layers.delta()
    assert paths(delta) == [
        ("/d/a", "changed"), ("/d/b", "removed"), ("/d/e", "removed"), ("/d/e/f", "removed"),
        ("/new", "added"), ("/new/x", "added"),
    ]  # fmt: skip
    changed = delta.get("/d/a")
    assert changed is not None
    assert changed.new is not None
    assert changed.old is not None
    assert (changed.new.sha256, changed.old.sha256) == (sha256_hex(b"A"), sha256_hex(b"a"))
    assert changed.new.mtime == EPOCH
    assert delta.get("/nothing") is None


def test_copy_up_without_change_is_nothing(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"/d/a": "a"})
    layers.put("/d/a", "a")
    os.utime(layers.merged / "d/a", (5, 5))
    layers.touch_directory("/d")
    assert paths(layers.delta()) == []
    (layers.merged / "d/a").chmod(0o600)
    assert paths(layers.delta()) == [("/d/a", "changed")]


def test_times(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"/d/a": "a"})
    os.utime(layers.lower / "d", (77, 77))
    layers.put("/owned", "x")
    layers.put("/d/new", "x")
    layers.touch_directory("/d")
    (layers.merged / "d").chmod(0o700)
    delta = layers.delta(owned=1_234)
    assert {e.path: e.new.mtime for e in delta if e.new} == {"/owned": 1_234, "/d/new": EPOCH, "/d": 77}


def test_directory_replaced_by_file_and_link_by_directory(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"/d/x": "x", "/outside": "o"})
    for top in (layers.lower, layers.merged):
        (top / "link").symlink_to("/etc")  # leads out of the root: nobody may follow it
    (layers.merged / "d/x").unlink()
    (layers.merged / "d").rmdir()
    layers.put("/d", "now a file")
    (layers.merged / "link").unlink()
    layers.put("/link/passwd", "mine")
    delta = layers.delta()
    assert paths(delta) == [("/d", "changed"), ("/d/x", "removed"), ("/link", "changed"), ("/link/passwd", "added")]


def test_hard_links(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {})
    layers.put("/b", "x")
    for top in (layers.upper, layers.merged):
        os.link(top / "b", top / "a")
    layers.put("/c", "x")
    assert {e.path: e.link_group for e in layers.delta()} == {"/a": "/a", "/b": "/a", "/c": None}


def test_ephemera_are_dropped(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {"/var/lib/rpm/x": "", "/etc/x": "", "/var/cache/x": ""})
    for pattern in EPHEMERA:
        layers.put(pattern.format(db="/var/lib/rpm"), "")
    assert paths(layers.delta()) == []
    layers.put("/etc/.pwd.lock", "not empty")
    layers.put("/var/cache/ldconfig/other", "")
    assert paths(layers.delta()) == [
        ("/etc/.pwd.lock", "added"), ("/var/cache/ldconfig", "added"), ("/var/cache/ldconfig/other", "added"),
    ]  # fmt: skip


def test_capability_without_root_id(tmp_path: Path) -> None:
    layers = Layers(tmp_path, {})
    layers.put("/f", "x")
    revision_3 = bytes.fromhex("01000003" + "00200000" + "00" * 12 + "a0860100")
    try:
        os.setxattr(layers.merged / "f", "security.capability", revision_3)
    except OSError as error:
        pytest.skip(f"file capabilities cannot be set here: {error}")
    entry = layers.delta().get("/f")
    assert entry is not None
    assert entry.new is not None
    assert entry.new.xattrs == {"security.capability": bytes.fromhex("01000002" + "00200000" + "00" * 12)}
