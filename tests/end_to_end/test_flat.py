"""A Node whose root image is a flat squashfs: respun, verified, restored; what came out is read by other programs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.merge import Change, Put, Removal
from respin.formats.squashfs.root import SquashfsRoot
from respin.provenance import statement
from tests.end_to_end.conftest import GOOD_FILES, sha256
from tests.end_to_end.test_kills import Build, moments
from tests.support.attacker import Forgery, evil_flat_build
from tests.support.forge import Forge, respin
from tests.support.images import extracted, run
from tests.support.keys import KeyWorld
from tests.support.ordinary import built_by_an_ordinary_user
from tests.support.variants import flat_variant

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="packing and unpacking a root with its owners takes root"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE"),
]

PACKS = {
    "zstd": ("-comp", "zstd", "-Xcompression-level", "3", "-b", "256K"),
    "gzip": ("-comp", "gzip", "-Xcompression-level", "2"),
}


@dataclass(frozen=True)
class World:
    """The flat stock ISO and its root image, the plugin, the respun ISO, what the build said, and what made them."""

    stock: Path
    image: Path
    plugin: Path
    output: Path
    document: Dict[str, Any]
    forge: Forge


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name == "gzip" else ()) for name in PACKS]
)
def world(
    request: pytest.FixtureRequest, key_world: KeyWorld, stock_iso: Path, tmp_path_factory: pytest.TempPathFactory
) -> World:
    """One respin for all tests."""
    tmp = tmp_path_factory.mktemp(f"flat-{request.param}")
    stock = flat_variant(stock_iso, tmp, PACKS[request.param])
    forge = Forge(key_world, stock, tmp)
    plugin = forge.plugin(
        "good",
        files=GOOD_FILES,
        directives={"/usr/libexec/good/tool": "%attr(0755,root,root) %caps(cap_net_raw=ep)"},
        sections='%pre\nuseradd -r -M -s /usr/sbin/nologin good\n%post\ntest "$(uname -r)" != ""\n',
        effects='users = ["good"]\ngroups = ["good"]',
    )
    done = forge.build(tmp / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    return World(stock, root_image(stock, tmp), plugin, tmp / "out.iso", done.json, forge)


def root_image(iso: Path, directory: Path) -> Path:
    return extracted(iso, "/LiveOS/squashfs.img", directory / "squashfs.img")


Tree = Dict[str, Tuple[Any, ...]]
_CONTENT, _XATTRS = 5, 6  # places in a tuple of facts


def tree(top: Path) -> Tree:
    """Every path below ``top`` with all its attributes and, for those with several names, the first of them."""
    found: Tree = {}
    first: Dict[int, str] = {}
    for path in walk(top):
        name = "/" + str(path.relative_to(top)) if path != top else "/"
        status = os.lstat(path)
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = sha256(path)
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        xattrs = attributes_of(path)
        links = "" if stat.S_ISDIR(status.st_mode) else first.setdefault(status.st_ino, name)
        found[name] = (
            *(stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid),
            *(int(status.st_mtime), content, tuple(sorted(xattrs.items())), status.st_rdev, links),
        )
    return found


def attributes_of(path: Path) -> Dict[str, bytes]:
    """The extended attributes; none where the file system has no such thing."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def walk(top: Path) -> Iterator[Path]:
    """``top`` and everything below, sorted."""
    yield top
    for name in sorted(os.listdir(top)):
        path = top / name
        if path.is_dir() and not path.is_symlink():
            yield from walk(path)
        else:
            yield path


@pytest.fixture(scope="module")
def trees(world: World, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Tree, Tree]:
    """The vendor's tree and the respun one, unpacked by unsquashfs."""
    found = []
    for iso in (world.stock, world.output):
        tmp = tmp_path_factory.mktemp("tree")
        run("unsquashfs", "-q", "-n", "-d", tmp / "root", root_image(iso, tmp))
        found.append(tree(tmp / "root"))
        shutil.rmtree(tmp)
    return found[0], found[1]


def test_verified_with_and_without_the_vendors_iso(world: World) -> None:
    assert world.document["verification"]["verdict"] == "PASSED"
    for base in (None, world.stock):
        done = world.forge.verify(world.output, base=base)
        assert done.code == 0, done.err


def test_restored_to_the_vendors_iso(world: World, tmp_path: Path) -> None:
    done = respin("restore", world.output, "-o", tmp_path / "stock.iso")
    assert done.code == 0, done.err
    assert sha256(tmp_path / "stock.iso") == sha256(world.stock)


def test_built_again_to_the_same_bytes(world: World) -> None:
    done = respin(
        *("reproduce", world.output, "--plugin", world.plugin, "--trust", world.forge.keys.trust, "--json"),
    )
    assert done.code == 0, f"{done.out} {done.err}"


def test_built_by_an_ordinary_user_to_the_same_bytes(world: World, tmp_path: Path) -> None:
    unsigned = {"sign_key": None, "gnupg_home": None, "unsigned": True}
    done = world.forge.build(tmp_path / "ours.iso", world.plugin, **unsigned)
    assert done.code == 0, done.err
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        theirs = built_by_an_ordinary_user(world.forge, world.plugin, place)
        assert sha256(tmp_path / "ours.iso") == sha256(theirs)
        assert {path.name for path in theirs.parent.iterdir()} == {"theirs.iso", "theirs.iso.added.cdx.json"}


def test_bills_of_materials_name_what_those_of_a_nested_root_name(
    world: World, stock_iso: Path, tmp_path: Path
) -> None:
    packages = []
    for number, iso in enumerate((stock_iso, world.stock, world.output)):
        done = respin("sbom", iso, "--all", "-o", tmp_path / f"{number}.json")
        assert done.code == 0, done.err
        packages.append({one["purl"] for one in json.loads((tmp_path / f"{number}.json").read_text())["components"]})
    assert packages[0] == packages[1]
    (added,) = packages[2] - packages[1]
    assert "/good@" in added


def test_a_statement_about_a_flat_root_names_no_image_inside(world: World, tmp_path: Path) -> None:
    document = json.loads(Forgery(world.output, tmp_path / "unused.iso", world.forge.keys).read("/respin.json"))
    definition = document["predicate"]["buildDefinition"]
    assert definition["buildType"] == statement.FLAT_BUILD
    assert statement.parse(encoded(document), where="x").inner_image == ""
    definition["internalParameters"]["respin_inner_image"] = "/LiveOS/ext3fs.img"
    with pytest.raises(MalformedError, match="inside a flat root"):
        statement.parse(encoded(document), where="x")
    definition["buildType"] = statement.NESTED_BUILD
    assert statement.parse(encoded(document), where="x").inner_image == "/LiveOS/ext3fs.img"
    del definition["internalParameters"]["respin_inner_image"]
    with pytest.raises(MalformedError, match="respin_inner_image"):
        statement.parse(encoded(document), where="x")


def encoded(document: Any) -> bytes:
    """Bytes of a statement."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_tree_is_the_vendors_and_the_declared_changes(world: World, trees: Tuple[Tree, Tree]) -> None:
    before, after = trees
    differing = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    inspected = respin("inspect", world.output, "--json")
    assert inspected.code == 0, inspected.err
    assert inspected.json["node"]["inner_image"] is None
    assert inspected.json["provenance"]["changes"] == len(differing), sorted(differing)
    added = {path for path in differing if path not in before}
    assert {path for path in GOOD_FILES} <= added
    counters = world.document["counters"]
    assert (len(added), len(differing - added)) == (counters["paths_added"], counters["paths_changed"])
    assert not before.keys() - after.keys()
    capabilities = dict(after["/usr/libexec/good/tool"][_XATTRS])
    assert capabilities == {"security.capability": bytes.fromhex("0100000200200000000000000000000000000000")}
    for path, content in GOOD_FILES.items():
        digest = hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
        assert after[path][_CONTENT] == digest


def test_the_kernel_shows_the_same_tree(world: World, trees: Tuple[Tree, Tree], tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    image = root_image(world.output, tmp_path)
    done = subprocess.run(["mount", "-o", "loop,ro", image, mount], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop mount of this squashfs here: {done.stderr.decode().strip()}")
    try:
        shown, unpacked = tree(mount), trees[1]
        if not any(facts[_XATTRS] for facts in shown.values()):  # a kernel without them
            unpacked = {path: (*facts[:_XATTRS], (), *facts[_XATTRS + 1 :]) for path, facts in unpacked.items()}
        assert shown == unpacked
    finally:
        run("umount", mount)


def test_a_respun_iso_is_a_base(world: World, tmp_path: Path) -> None:
    plugin = world.forge.plugin("second", files={"/usr/share/second/data": "more\n" * 100})
    done = world.forge.build(tmp_path / "both.iso", world.plugin, plugin, base=world.output, json=True)
    assert done.code == 0, done.err


def test_compared_with_its_stock(world: World) -> None:
    done = respin("diff", world.stock, world.output, "--json")
    assert done.code in (0, 1), done.err
    names = {one["name"] for one in done.json["sections"]["files"]["differences"]}
    assert set(GOOD_FILES) <= names
    assert len(names) == world.document["counters"]["paths_added"] + world.document["counters"]["paths_changed"]


def test_packing_flat_is_no_difference(world: World, stock_iso: Path) -> None:
    done = respin("diff", stock_iso, world.stock, "--json")
    assert done.json["sections"]["files"]["differences"] == []
    assert done.json["sections"]["packages"]["differences"] == []


@pytest.fixture(scope="module")
def installed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root as an installer copies it, by unsquashfs."""
    directory = tmp_path_factory.mktemp("installed")
    run("unsquashfs", "-q", "-n", "-d", directory / "root", root_image(world.output, directory))
    yield directory / "root"
    shutil.rmtree(directory)


def test_an_installed_flat_node_is_consistent(world: World, installed: Path) -> None:
    done = respin("verify", "--host", installed, "--json")
    assert done.code == 0, done.out
    assert (done.json["verdict"], done.json["drift"]) == ("CONSISTENT", [])
    assert [plugin["name"] for plugin in done.json["plugins"]] == ["good"]
    done = respin("verify", "--host", installed, "--iso", world.output, "--trust", world.forge.keys.trust, "--json")
    assert done.code == 0, done.out[:2000]
    assert done.json["checked"]["paths"] > 1000
    assert done.json["iso"]["complete"] is True


@pytest.mark.parametrize(
    ("path", "plugins"), [("usr/libexec/good/tool", True), ("usr/bin/env", False)], ids=["plugin", "vendor"]
)
def test_drift_of_an_installed_flat_node(world: World, installed: Path, path: str, plugins: bool) -> None:
    """A plugin's file is known by the facts in the root, the vendor's only by the ISO."""
    place, kept = installed / path, installed.parent / "kept"
    run("cp", "-a", place, kept)
    try:
        times = place.stat()
        content = place.read_bytes()
        place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
        alone = respin("verify", "--host", installed, "--json")
        assert alone.code == (3 if plugins else 0), alone.out[:2000]
        iso = ("--iso", world.output, "--trust", world.forge.keys.trust)
        done = respin("verify", "--host", installed, *iso, "--json")
        assert done.code == 3, done.out[:2000]
        assert [one["path"] for one in done.json["drift"]] == [f"/{path}"]
    finally:
        run("mv", "-T", kept, place)


def test_builds_of_a_flat_node_killed_at_some_moments(world: World, tmp_path: Path) -> None:
    build = Build(world.forge, world.plugin, tmp_path)
    seconds = build.run(0).seconds
    for moment in moments(4, 4, seconds):
        build.run(moment)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_builds_of_a_flat_node_killed_at_twenty_moments(world: World, tmp_path: Path) -> None:
    build = Build(world.forge, world.plugin, tmp_path)
    seconds = build.run(0).seconds
    killed = [build.run(moment).code for moment in moments(14, 20, seconds)]
    assert killed.count(-signal.SIGKILL) >= 15, "the moments lie within the run"


def attributes_in(world: World, path: str) -> Dict[str, Any]:
    """What the vendor says of a file, as a request needs it."""
    inode = SquashfsRoot.open(BytesView(world.image.read_bytes(), "vendor")).stat(path)
    return {"mode": stat.S_IMODE(inode.mode), "uid": inode.uid, "gid": inode.gid, "mtime": inode.mtime}


def refused(world: World, iso: Path) -> str:
    """The finding of a refusal, with the vendor's ISO out of the respun one."""
    done = world.forge.verify(iso, base=None)
    assert done.code in (3, 4), f"{done.code}: {done.out} {done.err}"
    return str(done.json["error"]["finding"])


def evil(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *changes: Change) -> str:
    """What verification finds in a respin with more changes than the plugin's."""
    return refused(world, evil_flat_build(world.forge, world.plugin, tmp_path / "evil.iso", changes, monkeypatch))


def test_the_attackers_tools_work(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests below would prove nothing."""
    iso = evil_flat_build(world.forge, world.plugin, tmp_path / "plain.iso", (), monkeypatch)
    done = world.forge.verify(iso, base=None)
    assert done.code == 0, done.err
    forged = Forgery(iso, tmp_path / "forged.iso", world.forge.keys).finish()
    assert world.forge.verify(forged, base=None).code == 0


def test_another_mode_of_a_vendors_file(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/usr/bin/env"
    put = Put(path, Kind.FILE, **{**attributes_in(world, path), "mode": 0o4755})
    assert evil(world, tmp_path, monkeypatch, put) == "vendor-path-changed"


def test_other_content_of_a_vendors_file(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/usr/bin/env"
    put = Put(path, Kind.FILE, **attributes_in(world, path), content=BytesView(b"6.6.6.6 updates\n", path))
    assert evil(world, tmp_path, monkeypatch, put) == "vendor-path-changed"


def test_one_file_more(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Put("/usr/bin/more-than-that", Kind.FILE, 0o4755, 0, 0, 0, content=BytesView(b"#!/bin/sh\n", "new"))
    assert evil(world, tmp_path, monkeypatch, put) == "undeclared-effect"


def test_one_file_less(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evil(world, tmp_path, monkeypatch, Removal("/usr/bin/env")) == "vendor-path-changed"


@pytest.mark.parametrize("place", ["vendor's data", "vendor's inodes", "superblock"])
def test_another_byte_of_the_root_image(world: World, tmp_path: Path, place: str) -> None:
    forgery = Forgery(world.output, tmp_path / "forged.iso", world.forge.keys)
    offset, size = forgery.place("/LiveOS/squashfs.img")
    output = SquashfsImage.open(BytesView(bytes(forgery.data[offset : offset + size]), "output"))
    at = {
        "vendor's data": output.options.data_start + 1000,
        "vendor's inodes": output.superblock.inode_table + 1000,
        "superblock": 8,  # its time
    }[place]
    forgery.change(offset + at, bytes([forgery.data[offset + at] ^ 1]))
    assert refused(world, forgery.finish()) in ("not-the-vendors", "malformed")
