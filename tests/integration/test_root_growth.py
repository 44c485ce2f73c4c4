"""Root images that are too small, of every feature set that vendors' programs make: grown, and judged by e2fsprogs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import pytest

from respin.errors import BuildError, UnsupportedError
from respin.root.growth import HEADROOM
from respin.root.install import Installed
from tests.support.comparing import assert_consistent
from tests.support.images import build_ext, build_squashfs, debugfs, fsck_clean, mounted, run
from tests.support.keys import KeyWorld
from tests.support.roots import Installer, NodeImage, Packages, SharedNode, blocks, pack, wrap

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"
)

MIB = 1 << 20
# As mke2fs made them for livecd-tools, for lorax, and makes them today; then what resize2fs handles in other ways.
FEATURES: Mapping[str, Tuple[str, Sequence[str]]] = {
    "ext2": ("ext2", ("-O", "none,ext_attr,filetype,sparse_super,large_file,dir_index", "-I", "128", "-b", "4096")),
    "ext3": (
        "ext3",
        ("-b", "4096", "-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"),
    ),
    "lorax": ("ext4", ("-b", "4096", "-O", "^64bit,^metadata_csum", "-m", "1")),
    "modern": ("ext4", ("-b", "4096", "-O", "metadata_csum,64bit,flex_bg,orphan_file")),
    "no-resize-inode": ("ext4", ("-b", "4096", "-O", "^resize_inode")),
    "meta-bg": ("ext4", ("-b", "4096", "-O", "^resize_inode,meta_bg,64bit")),
    "sparse-super2": ("ext4", ("-b", "4096", "-O", "^resize_inode,sparse_super2")),
    "1k": ("ext4", ("-b", "1024", "-O", "^resize_inode")),
}
LARGE = 50_000_000
MANY = 900


@pytest.fixture(scope="module")
def root(shared_node: SharedNode) -> Path:
    return shared_node[0]


@pytest.fixture(scope="module")
def packages(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(key_world, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def large(packages: Packages) -> Path:
    install = f"""mkdir -p %{{buildroot}}/opt/large/many; cd %{{buildroot}}/opt/large
head -c {LARGE} /dev/zero | tr '\\0' 'x' >file
for i in $(seq {MANY}); do echo $i >many/$i; done
"""
    return packages.build("large", install=install, files="/opt/large")


def node_of(tmp_path: Path, root: Path, kind: str, *, size_mib: int = 48, more: Sequence[str] = ()) -> NodeImage:
    fs, options = FEATURES[kind]
    return pack(tmp_path, root, fs=fs, size_mib=size_mib, options=(*options, *more))


def installed(node: NodeImage, tmp_path: Path, key_world: KeyWorld, rpm: Path, **changes: object) -> Installed:
    directory = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
    directory.mkdir()
    return Installer(directory, node, [key_world.public("rpm")]).run([rpm], **changes)


def grown_image(node: NodeImage, done: Installed, image: Path) -> Path:
    """The new ext image, whole."""
    shutil.copy(node.ext, image)
    os.truncate(image, done.image_size)
    with image.open("r+b") as stream:
        for index, content in done.changed_blocks.items():
            stream.seek(index * 128 * 1024)
            stream.write(content)
    return image


def superblock(image: Path) -> Dict[str, str]:
    """What dumpe2fs prints of it."""
    text = run("dumpe2fs", "-h", image).decode()
    return {match[1]: match[2] for match in re.finditer(r"^([^:\n]+):\s*(.*)$", text, re.M)}


@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_an_image_with_too_few_blocks_is_grown(
    tmp_path: Path, root: Path, large: Path, key_world: KeyWorld, kind: str
) -> None:
    node = node_of(tmp_path, root, kind)
    done = installed(node, tmp_path, key_world, large)
    image = grown_image(node, done, tmp_path / "grown.img")
    before, after = superblock(node.ext), superblock(image)
    assert done.image_size > node.ext.stat().st_size
    fsck_clean(image)
    assert_consistent(node.ext, image)
    assert debugfs(image, "stat /opt/large/file").split("Size: ")[1].split()[0] == str(LARGE)
    assert before["Filesystem features"] == after["Filesystem features"]
    assert before["Filesystem UUID"] == after["Filesystem UUID"]
    assert before["Last checked"] == after["Last checked"]
    # whole groups, and no more of them than the headroom asks for
    block, per_group = int(after["Block size"]), int(after["Blocks per group"])
    count, free = int(after["Block count"]), int(after["Free blocks"])
    assert count * block == done.image_size
    assert (count - int(after["First block"])) % per_group == 0
    assert free >= count // HEADROOM
    if count > per_group:
        assert free - per_group < (count // HEADROOM) + int(after["Inode count"]) // 8 + count // 50
    with mounted(image, tmp_path / "mount") as tree:
        assert (tree / "opt/large/file").stat().st_size == LARGE
        assert len(list((tree / "opt/large/many").iterdir())) == MANY
        for path in ("usr/share/vendor/deep/file7", "var/lib/rpm/rpmdb.sqlite"):
            assert (tree / path).is_file()
        assert (tree / "usr/bin/bash").read_bytes() == (root / "usr/bin/bash").read_bytes()


@pytest.mark.parametrize("kind", ["ext3", "modern"])
def test_the_same_image_grows_to_the_same_bytes(
    tmp_path: Path, root: Path, large: Path, key_world: KeyWorld, kind: str
) -> None:
    node = node_of(tmp_path, root, kind)
    first, second = (installed(node, tmp_path, key_world, large) for _ in range(2))
    assert blocks(first) == blocks(second)
    assert first.image_size == second.image_size


def test_an_image_with_too_few_inodes_is_grown(tmp_path: Path, root: Path, large: Path, key_world: KeyWorld) -> None:
    node = node_of(tmp_path, root, "modern", size_mib=256, more=("-N", "1000"))
    assert int(superblock(node.ext)["Free inodes"]) < MANY
    assert int(superblock(node.ext)["Free blocks"]) * 4096 > 2 * LARGE
    done = installed(node, tmp_path, key_world, large)
    image = grown_image(node, done, tmp_path / "grown.img")
    fsck_clean(image)
    after = superblock(image)
    assert int(after["Free inodes"]) >= int(after["Inode count"]) // HEADROOM
    with mounted(image, tmp_path / "mount") as tree:
        assert len(list((tree / "opt/large/many").iterdir())) == MANY


def test_an_image_with_room_stays_as_large_as_it_is(
    tmp_path: Path, root: Path, large: Path, key_world: KeyWorld
) -> None:
    node = node_of(tmp_path, root, "modern", size_mib=256)
    done = installed(node, tmp_path, key_world, large)
    assert done.image_size == node.ext.stat().st_size == 256 * MIB


def test_growing_can_be_forbidden(tmp_path: Path, root: Path, large: Path, key_world: KeyWorld) -> None:
    node = node_of(tmp_path, root, "lorax")
    with pytest.raises(BuildError, match="may not be grown") as caught:
        installed(node, tmp_path, key_world, large, may_grow=False)
    assert caught.value.finding == "no-space-in-root"


def test_an_image_whose_size_is_no_whole_number_of_blocks(
    tmp_path: Path, root: Path, large: Path, key_world: KeyWorld
) -> None:
    """The image ends inside a block of the squashfs, and behind the end of its file system."""
    (tmp_path / "node").mkdir()
    node = node_of(tmp_path / "node", root, "lorax")
    os.truncate(node.ext, node.ext.stat().st_size + 5000)
    run("mksquashfs", node.ext.parents[1], tmp_path / "odd.img", "-quiet", "-no-progress", "-tailends", "-all-root")
    odd = wrap(tmp_path, tmp_path / "odd.img", node.ext)
    done = installed(odd, tmp_path, key_world, large)
    fsck_clean(grown_image(odd, done, tmp_path / "grown.img"))
    assert done.image_size % MIB == 0


@pytest.mark.parametrize(
    ("request_", "says", "finding"),
    [
        ("ssv feature_incompat 0x800046", "unknown feature", "ext-features"),
        ("ssv feature_compat 0x80000038", "not known", "ext-features"),
        ("ssv feature_ro_compat 0x40000003", "not known", "ext-features"),
        ("feature needs_recovery", "journal needs to be replayed", "dirty-root"),
        ("ssv state 0", "not cleanly unmounted", "dirty-root"),
        ("ssv state 3", "having errors", "dirty-root"),
        ("ssv last_orphan 12", "orphaned", "dirty-root"),
    ],
)
def test_what_is_not_clean_or_not_known_is_refused(
    tmp_path: Path, root: Path, large: Path, key_world: KeyWorld, request_: str, says: str, finding: str
) -> None:
    tree = tmp_path / "squashfs-root/LiveOS"
    tree.mkdir(parents=True)
    ext = build_ext(tree / "ext3fs.img", {"a": b"b"}, fs="ext3", size_mib=16)
    debugfs(ext, request_)
    node = wrap(tmp_path, build_squashfs(tmp_path / "squashfs.img", tree.parent), ext)
    with pytest.raises(UnsupportedError, match=says) as caught:
        installed(node, tmp_path, key_world, large)
    assert caught.value.exit_code == 7
    assert caught.value.finding == finding
