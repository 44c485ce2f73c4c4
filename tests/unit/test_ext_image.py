"""Reading ext2, ext3 and ext4 images, judged by debugfs, dumpe2fs, and by the kernel where it may mount."""

from __future__ import annotations

import os
import random
import re
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import pytest

from respin.byteview import BytesView, FileView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext import ExtImage, ExtInode, is_ext
from tests.support.images import EPOCH, KiB, MiB, build_ext, debugfs, fsck_clean, mounted, run

VARIANTS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "ext2-1k": ("ext2", ("-b", "1024")),
    "ext2-4k-small-inodes": ("ext2", ("-b", "4096", "-I", "128")),
    "ext2-2k-no-filetype": ("ext2", ("-b", "2048", "-O", "^filetype,^dir_index,^sparse_super,^resize_inode")),
    "ext2-rev0": ("ext2", ("-r", "0", "-O", "none", "-I", "128")),
    "ext3": ("ext3", ("-b", "1024")),
    "ext4": ("ext4", ()),
    "ext4-4k": ("ext4", ("-b", "4096")),
    "ext4-32bit-no-flex": ("ext4", ("-b", "1024", "-O", "^64bit,^flex_bg,^metadata_csum")),
    "ext4-meta-bg": ("ext4", ("-b", "1024", "-O", "meta_bg,^resize_inode,^flex_bg", "-g", "1024")),
    "ext4-meta-bg-32bit": ("ext4", ("-b", "1024", "-O", "meta_bg,^resize_inode,^64bit", "-g", "1024")),
    "ext4-sparse-super2": ("ext4", ("-b", "1024", "-O", "sparse_super2")),
    "ext4-inline-data": ("ext4", ("-b", "4096", "-I", "512", "-O", "inline_data")),
    "ext4-big-inodes-ea": ("ext4", ("-b", "4096", "-I", "1024", "-O", "ea_inode,large_dir")),
}
FUTURE = 6_000_000_000  # beyond 2^32
ACL_ON_THE_WIRE = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1234),
        (4, 4, 0xFFFFFFFF),
        (8, 5, 77),
        (16, 6, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)


@dataclass(frozen=True)
class World:
    """An image, the tree it was made of, and how."""

    name: str
    image: Path
    tree: Path

    @property
    def is_ext4(self) -> bool:
        return self.name.startswith("ext4")

    @property
    def has_large_inodes(self) -> bool:
        return "small-inodes" not in self.name and "rev0" not in self.name

    @property
    def has_attributes(self) -> bool:
        return "rev0" not in self.name


def make_tree(root: Path) -> Path:
    rng = random.Random(11)
    (root / "etc").mkdir(parents=True)
    (root / "etc/version").write_bytes(b"PRODUCT='Example'\n")
    (root / "etc/empty").write_bytes(b"")
    for length in (59, 60, 61, 150, 300, 1000):
        (root / f"etc/length{length}").write_bytes(rng.randbytes(length))
    (root / "big").write_bytes(rng.randbytes(700_001))
    with (root / "sparse").open("wb") as sink:
        for at in (0, 40 * KiB, 5 * MiB, 66 * MiB, 80 * MiB):
            sink.seek(at)
            sink.write(b"data at %d" % at)
        sink.seek(81 * MiB)
        sink.write(b"final")
    with (root / "trailing").open("wb") as sink:
        sink.write(b"only the start")
        sink.truncate(300 * KiB + 5)
    with (root / "huge").open("wb") as sink:
        sink.seek(5 << 30)
        sink.write(b"behind four gibibytes")
    (root / "many").mkdir()
    for number in range(900):
        (root / "many" / f"a name long enough to fill some blocks, number {number}").write_bytes(b"%d" % number)
    for number in range(0, 900, 7):
        (root / "many" / f"a name long enough to fill some blocks, number {number}").unlink()
    (root / "few").mkdir()
    for number in range(12):
        (root / "few" / f"entry {number}").write_bytes(b"")
    for length in (1, 58, 59, 60, 61, 200, 900):
        (root / f"link{length}").symlink_to("x" * length)
    os.link(root / "big", root / "few/hard")
    for name in (b"gr\xc3\xbcn", b"not utf-8 \xff\xfe", b"with space", b"new\nline", b"x" * 255, b"-dash", b"\"quote'"):
        (root / os.fsdecode(name)).write_bytes(name)
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/modules").mkdir(parents=True)
    (root / "usr/lib/modules/a.ko").write_bytes(b"module")
    (root / "usr/up").symlink_to("../../../etc")
    (root / "abs").symlink_to("/usr/up/version")
    (root / "loop").symlink_to("loop")
    (root / "chain0").symlink_to("etc/version")
    for number in range(1, 45):
        (root / f"chain{number}").symlink_to(f"chain{number - 1}")
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return root


def touch_up(world: World, scratch: Path) -> None:
    """What mke2fs -d cannot copy for an ordinary user: devices, owners, attributes, times, unwritten extents."""
    scratch.joinpath("acl").write_bytes(ACL_ON_THE_WIRE)
    scratch.joinpath("value").write_bytes(bytes(range(256)) * 3)
    commands = [
        "mknod pipe p",
        "mknod null c 1 3",
        "mknod disk b 259 4000",
        "set_inode_field etc/version uid 100000",
        "set_inode_field etc/version gid 70000",
        "set_inode_field etc/version mode 0104755",
        "set_inode_field etc/empty atime @4294967000" if world.has_large_inodes else "stat etc/empty",
        "set_inode_field etc/length60 mtime @1",
    ]
    if world.has_large_inodes:
        commands += [
            f"set_inode_field etc/length61 mtime @{FUTURE}",
            "set_inode_field etc/length61 mtime_extra 0x2000001",
            f"set_inode_field etc/length61 crtime @{EPOCH + 7}",
        ]
    if world.has_attributes:
        commands += [
            "ea_set etc/version user.note hello",
            "ea_set etc/version security.selinux system_u:object_r:etc_t:s0",
            "ea_set etc/empty trusted.overlay.opaque y",
            f"ea_set -f {scratch / 'value'} big user.value",
            "ea_set big user.short s",
            f"ea_set -f {scratch / 'acl'} etc/length59 system.posix_acl_access",
        ]
    if world.is_ext4 and "inline" not in world.name:
        commands.append("fallocate etc/length1000 3 90")
    if "ea" in world.name.split("-"):
        scratch.joinpath("large").write_bytes(b"large value " * 2000)
        commands.append(f"ea_set -f {scratch / 'large'} few user.large")
    debugfs(world.image, *commands)
    fsck = run("sh", "-c", f"e2fsck -fn {world.image} || [ $? = 4 ]") if world.is_ext4 else b""
    assert b"rror reading" not in fsck


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("ext") / "tree")


@pytest.fixture(scope="module", params=list(VARIANTS))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tree: Path) -> World:
    fs, options = VARIANTS[request.param]
    scratch = tmp_path_factory.mktemp(request.param)
    image = build_ext(scratch / "image", tree, fs=fs, size_mib=48, options=options)
    made = World(request.param, image, tree)
    touch_up(made, scratch)
    return made


@pytest.fixture
def image(world: World) -> Iterator[ExtImage]:
    fd = os.open(world.image, os.O_RDONLY)
    try:
        yield ExtImage.open(FileView(fd, world.name))
    finally:
        os.close(fd)


def queries(image: Path, commands: Sequence[str]) -> List[str]:
    """The answers of debugfs (reading only) to each of some commands."""
    script = "".join(f"{command}\n" for command in commands).encode()
    said = run("debugfs", "-f", "-", image, stdin=script, env={"DEBUGFS_PAGER": "__none__", "TZ": "UTC"})
    answers = re.split(r"^debugfs: .*\n", said.decode("utf-8", "surrogateescape"), flags=re.MULTILINE)[1:]
    assert len(answers) == len(commands)
    return answers


TYPES = {
    "regular": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "character special": stat.S_IFCHR,
    "block special": stat.S_IFBLK,
    "FIFO": stat.S_IFIFO,
}


def test_every_inode_as_debugfs_sees_it(world: World, image: ExtImage) -> None:
    inodes = {inode.number: inode for _path, inode in image.walk()}
    assert len(inodes) > 850
    for inode, answer in zip(inodes.values(), queries(world.image, [f"stat <{number}>" for number in inodes])):
        head = re.match(r"Inode: (\d+)\s+Type: (.+?)\s+Mode:\s+(\d+)\s+Flags: 0x([0-9a-f]+)", answer)
        assert head, answer
        assert (int(head[1]), int(head[4], 16)) == (inode.number, inode.flags)
        assert TYPES[head[2]] | int(head[3], 8) == inode.mode
        owner = re.search(r"User:\s*(\d+)\s+Group:\s*(\d+)(?:\s+Project:\s*\d+)?\s+Size: (\d+)", answer)
        assert owner or stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode), answer
        if owner:
            assert [int(number) for number in owner.groups()] == [inode.uid, inode.gid, inode.size]
        links = re.search(r"Links: (\d+)\s+Blockcount: (\d+)", answer)
        assert links
        assert (int(links[1]), int(links[2])) == (inode.nlink, inode.sectors)
        for name in ("ctime", "atime", "mtime", "crtime"):
            said = re.search(rf"^ *{name}: 0x([0-9a-f]+)(?::([0-9a-f]+))?", answer, re.MULTILINE)
            if said is None:
                assert name == "crtime"
                assert inode.crtime is None
                continue
            extra = int(said[2] or "0", 16)
            seconds = struct.unpack("<i", struct.pack("<I", int(said[1], 16)))[0] + ((extra & 3) << 32)
            assert (getattr(inode, name), getattr(inode, f"{name}_nsec")) == (seconds, extra >> 2), (name, answer)
        device = re.search(r"Device major/minor number: (\d+):(\d+)", answer)
        assert (os.makedev(int(device[1]), int(device[2])) if device else 0) == inode.rdev


def test_the_names_are_those_of_the_tree(world: World, image: ExtImage) -> None:
    expected = {"/", "/lost+found", "/pipe", "/null", "/disk"}
    for directory, directories, files in os.walk(world.tree):
        below = Path(directory).relative_to(world.tree)
        expected.update(str(Path("/", below, name)) for name in (*directories, *files))
    paths = [path for path, _inode in image.walk()]
    assert len(paths) == len(set(paths))
    assert set(paths) == expected
    raw = [[os.fsencode(part) for part in path.split("/")[1:]] for path in paths[1:]]
    assert raw == sorted(raw)
    assert image.listdir("/few") == sorted([*(f"entry {number}" for number in range(12)), "hard"])
    assert [path for path, _inode in image.walk("/usr")] == [path for path in paths if path.startswith("/usr")]


def test_the_contents_are_those_of_the_tree(world: World, image: ExtImage) -> None:
    for path, inode in image.walk():
        source = world.tree / path[1:]
        if inode.is_symlink:
            assert image.readlink(inode) == os.readlink(source)
        elif path == "/trailing" and "inline" in world.name:
            assert image.read(inode).rstrip(b"\0") == b"only the start"  # mke2fs leaves the hole out here
        elif inode.is_file and inode.size < MiB and path != "/etc/length1000":
            assert image.read(inode) == source.read_bytes(), path
    assert image.read(image.stat("/etc/length1000"))[:1000] == (world.tree / "etc/length1000").read_bytes()
    assert image.stat("/few/hard").number == image.stat("/big").number
    assert image.stat("/big").nlink == 2


def test_sparse_files(world: World, image: ExtImage) -> None:
    sparse = image.stat("/sparse")
    view = image.file_view(sparse)
    assert view.size == 81 * MiB + 5
    for at in (0, 40 * KiB, 5 * MiB, 66 * MiB, 80 * MiB):
        text = b"data at %d" % at
        assert view.read(at, 40) == text + bytes(40 - len(text))
    assert view.read(81 * MiB, 5) == b"final"
    stored = sum(piece.length for piece in image.data_ranges(sparse) if piece.offset is not None)
    assert stored <= 6 * image.superblock.block_size
    assert sum(piece.length for piece in image.data_ranges(sparse)) == sparse.size
    huge = image.file_view(image.stat("/huge"))
    assert huge.size == (5 << 30) + 21
    assert huge.read(5 << 30, 21) == b"behind four gibibytes"
    assert huge.read((5 << 30) - 3, 6) == b"\0\0\0beh"
    with pytest.raises(UnsupportedError, match="limit"):
        image.read(image.stat("/huge"))
    with pytest.raises(MalformedError):
        huge.read(5 << 30, 22)


def test_blocks_lie_where_debugfs_says(world: World, image: ExtImage) -> None:
    size = image.superblock.block_size
    chosen = [
        inode for path, inode in image.walk() if path in ("/big", "/sparse", "/huge", "/many", "/link900", "/few")
    ]
    for inode, answer in zip(chosen, queries(world.image, [f"blocks <{inode.number}>" for inode in chosen])):
        if inode.is_inline:
            continue
        ours = [
            offset // size + n
            for offset, length in image.data_ranges(inode)
            if offset is not None
            for n in range(-(-length // size))
        ]
        theirs = [int(number) for number in answer.split()]  # blocks of the map among them
        assert ours == [number for number in theirs if number in set(ours)]
        assert set(theirs) - set(ours) <= {offset // size for offset, _length in image.mapping_ranges(inode)}


def test_the_map_of_a_file_is_found(world: World, image: ExtImage) -> None:
    """Blocks of the map and of the attributes are what `stat` accounts for beside the data."""
    for path in ("/big", "/sparse", "/huge", "/many"):
        inode = image.stat(path)
        data = sum(
            -(-p.length // image.superblock.block_size) for p in image.data_ranges(inode) if p.offset is not None
        )
        others = len(image.mapping_ranges(inode))
        assert (data + others) * image.superblock.block_size == inode.sectors * 512, path


def test_inodes_lie_where_debugfs_says(world: World, image: ExtImage) -> None:
    numbers = [2, 11, 12, image.stat("/big").number, image.superblock.inode_count]
    for number, answer in zip(numbers, queries(world.image, [f"imap <{number}>" for number in numbers])):
        place = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", answer)
        assert place, answer
        assert image.inode_location(number) == int(place[1]) * image.superblock.block_size + int(place[2], 16)
    for number in (0, -1, image.superblock.inode_count + 1):
        with pytest.raises(MalformedError):
            image.inode_location(number)


def test_metadata_lies_where_dumpe2fs_says(world: World, image: ExtImage) -> None:
    size = image.superblock.block_size
    ours: Dict[Tuple[str, int], Tuple[int, int]] = {}
    for piece in image.metadata_ranges():
        first = piece.offset // size
        assert (piece.kind, piece.group) not in ours
        ours[piece.kind, piece.group] = (first, first + -(-piece.length // size) - 1)
    theirs: Dict[Tuple[str, int], Tuple[int, int]] = {}
    group = -1
    names = {
        "superblock at": "superblock",
        "Group descriptors at": "group-descriptors",
        "Group descriptor at": "group-descriptors",
        "Reserved GDT blocks at": "reserved-descriptors",
        "Block bitmap at": "block-bitmap",
        "Inode bitmap at": "inode-bitmap",
        "Inode table at": "inode-table",
    }
    for line in run("dumpe2fs", world.image).decode("utf-8", "replace").splitlines():
        heading = re.match(r"Group (\d+):", line)
        group = int(heading[1]) if heading else group
        if group >= 0:
            for label, kind in names.items():
                for place in re.finditer(rf"{label} (\d+)(?:-(\d+))?", line):
                    theirs[kind, group] = (int(place[1]), int(place[2] or place[1]))
    assert ours == theirs


def test_superblock_facts(world: World, image: ExtImage) -> None:
    facts = dict(
        line.split(":", 1)
        for line in run("dumpe2fs", "-h", world.image).decode().splitlines()
        if re.match(r"\w.*:", line)
    )
    superblock = image.superblock
    assert int(facts["Block count"]) == superblock.block_count
    assert int(facts["Free blocks"]) == superblock.free_blocks
    assert int(facts["Reserved block count"]) == superblock.reserved_blocks
    assert int(facts["Inode count"]) == superblock.inode_count
    assert int(facts["Free inodes"]) == superblock.free_inodes
    assert int(facts["Block size"]) == superblock.block_size
    assert facts["Filesystem UUID"].strip() == superblock.uuid
    features = facts["Filesystem features"].strip()
    assert superblock.features == frozenset(() if features == "(none)" else features.split())
    assert not superblock.dirty
    assert superblock.problems == ()


def test_extended_attributes(world: World, image: ExtImage) -> None:
    if not world.has_attributes:
        assert all(not image.xattrs(inode) for _path, inode in image.walk())
        return
    assert image.xattrs(image.stat("/etc/version")) == {
        "user.note": b"hello",
        "security.selinux": b"system_u:object_r:etc_t:s0",
    }
    assert image.xattrs(image.stat("/etc/empty")) == {"trusted.overlay.opaque": b"y"}
    assert image.xattrs(image.stat("/big")) == {"user.value": bytes(range(256)) * 3, "user.short": b"s"}
    assert image.xattrs(image.stat("/etc/length59")) == {"system.posix_acl_access": ACL_ON_THE_WIRE}
    assert image.xattrs(image.stat("/etc/length300")) == {}
    if "ea" in world.name.split("-"):
        assert image.xattrs(image.stat("/few")) == {"user.large": (b"large value " * 2000)[:4096]}


def test_times_and_owners_beyond_16_and_32_bits(world: World, image: ExtImage) -> None:
    version = image.stat("/etc/version")
    assert (version.uid, version.gid, version.mode) == (100_000, 70_000, 0o104755)
    assert image.stat("/null").rdev == os.makedev(1, 3)
    assert image.stat("/disk").rdev == os.makedev(259, 4000)
    assert image.stat("/etc/length60").mtime == 1
    if world.has_large_inodes:
        late = image.stat("/etc/length61")
        assert late.mtime_nsec == 0x2000001 >> 2
        assert late.mtime >> 32 == FUTURE >> 32
        assert late.crtime == EPOCH + 7
        assert image.stat("/etc/empty").atime == 4294967000


def test_unwritten_extents_read_as_zeros(world: World, image: ExtImage) -> None:
    if not world.is_ext4 or "inline" in world.name:
        pytest.skip("no extents")
    inode = image.stat("/etc/length1000")
    size = image.superblock.block_size
    content = image.read(inode)
    assert content[1000:] == bytes(len(content) - 1000)
    assert len(content) in (1000, 91 * size)


class TestPaths:
    """Looking names up, with and without following links."""

    def test_lookup_follows_nothing(self, image: ExtImage) -> None:
        assert image.stat("/lib").is_symlink
        assert image.lookup("/lib/modules") is None
        assert image.lookup("/etc/version/below") is None
        assert image.lookup("/nothing") is None
        found = image.lookup("//usr//lib/")
        assert found is not None
        assert found.is_directory
        assert image.stat("/").number == 2
        for call in (image.stat, image.listdir):
            with pytest.raises(UnsupportedError) as caught:
                call("/nothing")
            assert caught.value.finding == "no-such-path"
        with pytest.raises(UnsupportedError):
            image.listdir("/etc/version")

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/", "/"),
            ("/lib/modules/a.ko", "/usr/lib/modules/a.ko"),
            ("/lib/../up", "/etc"),
            ("/abs", "/etc/version"),
            ("/usr/up/../../..", "/"),
            ("/../../etc/./version", "/etc/version"),
            ("/loop", None),
            ("/link60", None),
            ("/etc/version/..", None),
            ("/chain39", "/etc/version"),
            ("/chain40", None),
        ],
    )
    def test_resolve_stays_inside(self, image: ExtImage, path: str, expected: str) -> None:
        found = image.resolve(path)
        assert (found and found.path) == expected
        if found is not None:
            assert found.inode == image.stat(found.path)


def kernel_view(root: Path) -> Dict[str, Tuple[object, ...]]:
    """lstat, link target and attributes of everything below a mounted file system."""
    seen: Dict[str, Tuple[object, ...]] = {}
    for directory, directories, files in os.walk(root):
        for path in [Path(directory, name) for name in (*directories, *files)] + [Path(directory)]:
            status = path.lstat()
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            size = 0 if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else status.st_size
            target = os.readlink(path) if path.is_symlink() else ""
            seen[str(Path("/", path.relative_to(root)))] = (
                *(status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_rdev),
                *(size, status.st_mtime_ns, status.st_ctime_ns, status.st_atime_ns),
                target,
                attributes,
            )
    return seen


def our_view(image: ExtImage) -> Dict[str, Tuple[object, ...]]:
    def nanoseconds(inode: ExtInode, name: str) -> int:
        return int(getattr(inode, name)) * 10**9 + int(getattr(inode, f"{name}_nsec"))

    return {
        path: (
            *(inode.number, inode.mode, inode.uid, inode.gid, inode.nlink, inode.rdev),
            *(inode.size, *(nanoseconds(inode, name) for name in ("mtime", "ctime", "atime"))),
            image.readlink(inode) if inode.is_symlink else "",
            dict(image.xattrs(inode)),
        )
        for path, inode in image.walk()
    }


def test_the_kernel_sees_the_same(world: World, image: ExtImage, tmp_path: Path) -> None:
    with mounted(world.image, tmp_path / "mnt") as root:
        theirs = kernel_view(root)
        assert our_view(image) == theirs
        for path, inode in image.walk():
            if inode.is_file and inode.size <= MiB:
                assert image.read(inode) == (root / path[1:]).read_bytes(), path


@pytest.mark.parametrize("name", ["ext2-1k", "ext4"])
def test_a_walk_over_many_files_is_quick(name: str, tmp_path: Path) -> None:
    for directory in range(50):
        (tmp_path / f"tree/directory{directory}").mkdir(parents=True)
        for number in range(100):
            (tmp_path / f"tree/directory{directory}/{number}").touch()
    fs, options = VARIANTS[name]
    image = build_ext(tmp_path / "image", tmp_path / "tree", fs=fs, size_mib=64, options=(*options, "-N", "6000"))
    with image.open("rb") as source:
        ext = ExtImage.open(FileView(source.fileno(), "image"))
        started = time.process_time()
        assert sum(1 for _ in ext.walk()) == 5000 + 50 + 2
        assert time.process_time() - started < 1.5


def test_a_dirty_journal_is_flagged(tmp_path: Path) -> None:
    image = build_ext(tmp_path / "image", {"a": b"b"}, fs="ext4", size_mib=16)
    fsck_clean(image)
    debugfs(image, "feature needs_recovery")
    superblock = ExtImage.open(BytesView(image.read_bytes(), "image")).superblock
    assert superblock.dirty
    assert superblock.problems == ("its journal needs to be replayed",)
    debugfs(image, "feature -needs_recovery", "set_super_value state 2", "set_super_value last_orphan 12")
    superblock = ExtImage.open(BytesView(image.read_bytes(), "image")).superblock
    assert len(superblock.problems) == 3


@pytest.mark.parametrize(
    "options",
    [("-O", "bigalloc", "-C", "16384"), ("-O", "encrypt"), ("-O", "casefold"), ("-O", "verity"), ("-O", "journal_dev")],
    ids=lambda options: options[1],
)
def test_features_that_change_everything_are_refused(tmp_path: Path, options: Tuple[str, ...]) -> None:
    image = build_ext(tmp_path / "image", fs="ext4", size_mib=16, options=options)
    with pytest.raises(UnsupportedError) as caught:
        ExtImage.open(BytesView(image.read_bytes(), "image"))
    assert caught.value.finding == "ext-features"
    assert options[1] in str(caught.value)


def test_an_unknown_incompatible_feature_is_refused(tmp_path: Path) -> None:
    data = bytearray(build_ext(tmp_path / "image", size_mib=4).read_bytes())
    data[1024 + 96 + 3] |= 0x40
    with pytest.raises(UnsupportedError, match="0x40000000"):
        ExtImage.open(BytesView(bytes(data), "image"))
    data[1024 + 96 + 3] &= 0xBF
    data[1024 + 100 + 3] |= 0x40  # of the read-only kind: reading is safe
    assert "ro_compat-0x40000000" in ExtImage.open(BytesView(bytes(data), "image")).superblock.features


def test_something_else() -> None:
    for data in (b"", bytes(1080), bytes(4096)):
        assert not is_ext(BytesView(data, "else"))
        with pytest.raises(UnsupportedError) as caught:
            ExtImage.open(BytesView(data, "else"))
        assert caught.value.finding == "not-ext"


def test_a_truncated_image(tmp_path: Path) -> None:
    data = build_ext(tmp_path / "image", size_mib=4).read_bytes()
    with pytest.raises(MalformedError) as caught:
        ExtImage.open(BytesView(data[:-1], "image"))
    assert caught.value.finding == "truncated"
