"""The canonical packing and its reader: GNU tar packs the valid archives, tarfile and hand-made headers the rest."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Callable, Dict, List, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from respin.bundle import packing
from respin.bundle.members import Store
from respin.bundle.reading import read_bundle
from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError, UsageError

CONTENT: Dict[str, bytes] = {
    "manifest.json": b"{}\n",
    "manifest.json.asc": b"not really a signature\n",
    "LICENSE": b"",
    "README": b"x" * 512,
    "rpms/alpha-1.0-1.noarch.rpm": bytes(range(256)) * 5,
    "rpms/beta-1.0~rc1-1.x86_64.rpm": b"b" * 70_000,
}
GNU_TAR = [
    "tar", "--format=ustar", "-b1", "--mode=0644", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0",
]  # fmt: skip


def write_tree(directory: Path, content: Dict[str, bytes]) -> Path:
    for name, data in content.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree"), CONTENT)


@pytest.fixture(scope="module")
def archive(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What GNU tar makes of the tree, told to be canonical."""
    target = tmp_path_factory.mktemp("packed") / "x.tar"
    subprocess.run([*GNU_TAR, "-cf", str(target), *CONTENT], cwd=tree, check=True)
    return target.read_bytes()


def refused(tmp_path: Path, data: bytes) -> RespinError:
    path = tmp_path / "bad.plugin.tar"
    path.write_bytes(data)
    with pytest.raises(MalformedError) as caught:
        read_bundle(path, tmp_path).close()
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == [path.name], "a private copy was left behind"
    return caught.value


def test_reads_what_gnu_tar_packs_and_would_pack_the_same(tmp_path: Path, archive: bytes) -> None:
    path = tmp_path / "x.plugin.tar"
    path.write_bytes(archive)
    with read_bundle(path, tmp_path) as bundle:
        assert {member.name: member.read() for member in bundle.members} == CONTENT
        assert all(member.sha256 == hashlib.sha256(CONTENT[member.name]).hexdigest() for member in bundle.members)
        assert bundle.sha256 == hashlib.sha256(archive).hexdigest()
        assert bundle.size == len(archive)
        assert b"".join(packing.pieces(bundle.members)) == archive


def test_a_directory_is_the_bundle_it_would_pack_to(tree: Path, archive: bytes) -> None:
    with read_bundle(tree) as bundle:
        assert bundle.sha256 == hashlib.sha256(archive).hexdigest()
        assert bundle.size == len(archive)
        assert [member.name for member in bundle.members] == list(CONTENT)


def test_the_copies_do_not_follow_the_file(tmp_path: Path, archive: bytes) -> None:
    path = tmp_path / "x.plugin.tar"
    path.write_bytes(archive)
    with read_bundle(path, tmp_path) as bundle:
        path.write_bytes(bytes(len(archive)))
        assert {member.name: member.read() for member in bundle.members} == CONTENT


NAMES = st.from_regex(r"rpms/[A-Za-z0-9_][A-Za-z0-9._+~^-]{0,40}\.rpm", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip_and_bsdtar_agrees(tmp_path: Path, content: Dict[str, bytes]) -> None:
    store = Store(tmp_path)
    content = {"manifest.json": b"{}", **content}
    members = [store.add(name, [data], size=len(data), where="x") for name, data in content.items()]
    path = tmp_path / "y.plugin.tar"
    path.write_bytes(b"".join(packing.pieces(members)))
    store.close()
    with read_bundle(path, tmp_path) as bundle:
        assert {member.name: member.read() for member in bundle.members} == content
    for name, data in content.items():
        assert subprocess.run(["bsdtar", "-xOf", str(path), name], capture_output=True, check=True).stdout == data


# -- each of these changes one thing in the valid archive --------------------------------------------------------------


def offset_of(archive: bytes, name: str) -> int:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getmember(name).offset


def with_header(archive: bytes, name: str, position: int, data: bytes) -> bytes:
    """The archive with some bytes of one header changed and the header's checksum corrected."""
    start = offset_of(archive, name)
    block = bytearray(archive[start : start + 512])
    block[position : position + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return archive[:start] + bytes(block) + archive[start + 512 :]


def repack(change: Callable[[tarfile.TarInfo], Optional[tarfile.TarInfo]], **options: object) -> bytes:
    """The same content packed by Python's tarfile, each header passed through ``change``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=options.pop("format", tarfile.USTAR_FORMAT)) as tar:  # type: ignore[call-overload]
        for name, data in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o644
            changed = change(info)
            if changed is not None:
                tar.addfile(changed, io.BytesIO(data) if changed.isreg() else None)
    return buffer.getvalue()


README = "README"
METADATA = [
    ("mode", 100, b"0000755\0"),
    ("mode spelled otherwise", 100, b"000644 \0"),
    ("owner", 108, b"0001750\0"),
    ("group", 116, b"0001750\0"),
    ("time", 136, b"00000000001\0"),
    ("size spelled otherwise", 124, b"00000001000 "),
    ("old type flag", 156, b"\0"),
    ("contiguous file", 156, b"7"),
    ("link name", 157, b"x"),
    ("version", 263, b"  "),
    ("gnu magic", 257, b"ustar  \0"),
    ("user name", 265, b"root"),
    ("group name", 297, b"root"),
    ("device", 329, b"0000001\0"),
    ("no device", 329, bytes(8)),
    ("behind the header's fields", 500, b"smuggled"),
    ("behind the name", 20, b"smuggled"),
]


@pytest.mark.parametrize(("position", "data"), [entry[1:] for entry in METADATA], ids=[entry[0] for entry in METADATA])
def test_other_metadata_is_refused(tmp_path: Path, archive: bytes, position: int, data: bytes) -> None:
    assert refused(tmp_path, with_header(archive, README, position, data)).finding == "not-canonical"


def test_a_prefix_is_refused(tmp_path: Path, archive: bytes) -> None:
    start = with_header(archive, "rpms/alpha-1.0-1.noarch.rpm", 0, b"alpha-1.0-1.noarch.rpm".ljust(100, b"\0"))
    split = bytearray(start)
    at = offset_of(archive, "rpms/alpha-1.0-1.noarch.rpm")
    split[at + 345 : at + 349] = b"rpms"
    split[at + 148 : at + 156] = b" " * 8
    split[at + 148 : at + 156] = b"%06o\0 " % sum(split[at : at + 512])
    with tarfile.open(fileobj=io.BytesIO(bytes(split))) as tar:
        assert tar.getnames() == list(CONTENT), "another reader sees the same names"
    assert refused(tmp_path, bytes(split)).finding == "not-canonical"


def test_smuggled_padding_is_refused(tmp_path: Path, archive: bytes) -> None:
    data = bytearray(archive)
    data[512 + len(CONTENT["manifest.json"]) + 7] = 1
    assert refused(tmp_path, bytes(data)).finding == "not-canonical"


@pytest.mark.parametrize("tail", [b"\0", bytes(512), bytes(9216), b"more", b"\0" * 511 + b"x"])
def test_bytes_behind_the_end_are_refused(tmp_path: Path, archive: bytes, tail: bytes) -> None:
    assert refused(tmp_path, archive + tail).finding == "not-canonical"


def test_bytes_in_the_end_are_refused(tmp_path: Path, archive: bytes) -> None:
    refused(tmp_path, archive[:-1] + b"\1")
    refused(tmp_path, archive[:-512])


def test_another_order_is_refused(tmp_path: Path) -> None:
    reordered = dict(reversed(list(CONTENT.items())))
    tree = write_tree(tmp_path / "tree", reordered)
    subprocess.run([*GNU_TAR, "-cf", str(tmp_path / "x"), *reordered], cwd=tree, check=True)
    (tmp_path / "inner").mkdir()
    assert refused(tmp_path / "inner", (tmp_path / "x").read_bytes()).finding == "not-canonical"


def _named(name: str) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def change(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if info.name == README:
            info.name = name
        return info

    return change


@pytest.mark.parametrize(
    "name",
    [
        "/README", "../README", "rpms/../README", "./README", "readme", "README/", "rpms/x.rpm/y.rpm", "rpms/x.txt",
        "rpms/.rpm", "rpms/-x.rpm", "rpms/a b.rpm", "rpms/a\nb.rpm", "rpms//a.rpm", "/rpms/a.rpm", "rpms/ä.rpm",
        "extra",
    ],
)  # fmt: skip
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, repack(_named(name))).finding == "bad-member"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_other_kinds_of_members_are_refused(tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if info.name == README:
            info.type = kind
            info.linkname = "LICENSE"
            info.size = 0
        return info

    assert refused(tmp_path, repack(change)).finding == "bad-member"


def test_a_duplicate_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, repack(_named("LICENSE"))).finding == "bad-member"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_pax_and_gnu_extensions_are_refused(tmp_path: Path, form: int) -> None:
    def change(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if info.name == README:
            info.mtime = 0
            info.pax_headers = {"comment": "smuggled"}
            if form == tarfile.GNU_FORMAT:
                info.name = "rpms/" + "x" * 120 + ".rpm"
        return info

    data = repack(change, format=form)
    refused(tmp_path, data)


def test_a_claim_of_8_gib_is_refused_before_anything_is_copied(tmp_path: Path, archive: bytes) -> None:
    for size in (b"77777777777\0", b"\x80\0\0\0\0\0\0\x02\0\0\0\0"):
        assert refused(tmp_path, with_header(archive, README, 124, size)).finding == "too-large"
        huge = with_header(archive, "rpms/beta-1.0~rc1-1.x86_64.rpm", 124, size)
        assert refused(tmp_path, huge).finding == "too-large"
    within = with_header(archive, "rpms/beta-1.0~rc1-1.x86_64.rpm", 124, b"30000000000\0")
    assert refused(tmp_path, within).finding == "truncated"


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    sparse = tmp_path / "tree" / "rpms" / "x.rpm"
    sparse.parent.mkdir(parents=True)
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["tar", "-S", "-cf", "../x.tar", "rpms/x.rpm"], cwd=tmp_path / "tree", check=True)
    data = (tmp_path / "x.tar").read_bytes()
    assert len(data) < 1 << 20
    (tmp_path / "inner").mkdir()
    refused(tmp_path / "inner", data)


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 513, 1024, 5000, -1025, -513, -1])
def test_a_truncated_bundle_is_refused(tmp_path: Path, archive: bytes, cut: int) -> None:
    refused(tmp_path, archive[:cut])


def test_a_compressed_tar_is_refused(tmp_path: Path, archive: bytes) -> None:
    assert refused(tmp_path, gzip.compress(archive)).finding == "not-a-bundle"
    (tmp_path / "inner").mkdir()


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(1100):
            tar.addfile(tarfile.TarInfo(f"rpms/{number:04d}.rpm"))
    assert refused(tmp_path, buffer.getvalue()).finding == "bad-member"


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_a_typed_error_or_other_content(tmp_path: Path, archive: bytes, data: st.DataObject) -> None:
    """Only a change inside a member's content can still be a canonical bundle, and then the content differs."""
    damaged = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(archive) - 1) | st.integers(0, 511))
        damaged[position] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.plugin.tar"
    path.write_bytes(damaged)
    try:
        bundle = read_bundle(path, tmp_path)
    except MalformedError:
        return
    with bundle:
        content: List[bytes] = [member.read() for member in bundle.members]
        assert (content == list(CONTENT.values())) == (bytes(damaged) == archive)
        assert bundle.sha256 == hashlib.sha256(damaged).hexdigest()


@given(st.binary(max_size=2000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_typed_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.plugin.tar"
    path.write_bytes(data)
    with pytest.raises(MalformedError):
        read_bundle(path, tmp_path)


# -- directories -------------------------------------------------------------------------------------------------------


def _symlink(tree: Path) -> None:
    (tree / "README").unlink()
    (tree / "README").symlink_to("LICENSE")


def _symlinked_rpms(tree: Path) -> None:
    (tree / "rpms").rename(tree.parent / "elsewhere")
    (tree / "rpms").symlink_to("../elsewhere")


def _fifo(tree: Path) -> None:
    (tree / "README").unlink()
    os.mkfifo(tree / "README")


def _large(tree: Path) -> None:
    with (tree / "manifest.json").open("wb") as file:
        file.truncate(1 << 32)


@pytest.mark.parametrize(
    "break_it",
    [
        _symlink,
        _symlinked_rpms,
        _fifo,
        _large,
        lambda tree: (tree / ".hidden").write_text(""),
        lambda tree: (tree / "rpms" / "sub.rpm").mkdir(),
        lambda tree: (tree / "rpms" / "x.txt").write_text(""),
        lambda tree: os.mkdir(os.fsencode(tree) + b"/\xff"),
        lambda tree: (tree / "LICENSE").unlink() or (tree / "LICENSE").mkdir(),
    ],
)
def test_a_directory_with_anything_else_in_it_is_refused(tmp_path: Path, break_it: Callable[[Path], object]) -> None:
    tree = write_tree(tmp_path / "tree", CONTENT)
    break_it(tree)
    with pytest.raises(MalformedError):
        read_bundle(tree)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_bundle(tmp_path / "missing")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError):
        read_bundle(tmp_path / "fifo")


def test_names_and_sizes_have_limits() -> None:
    longest = "rpms/" + "x" * 91 + ".rpm"
    assert packing.check_name(longest, where="") == longest
    with pytest.raises(MalformedError):
        packing.check_name("rpms/" + "x" * 92 + ".rpm", where="")
    with pytest.raises(MalformedError):
        packing.check_size("manifest.json", (4 << 20) + 1, where="")
    with pytest.raises(MalformedError):
        packing.check_size("README", -1, where="")


def test_comparing_notices_a_longer_and_a_shorter_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    members = [store.add("LICENSE", [b"abc"], size=3, where="x")]
    whole = b"".join(packing.pieces(members))
    assert b"".join(packing.compare(members, BytesView(whole, "x"))) == whole
    for other in (whole + b"\0", whole[:-1], whole[:600]):
        with pytest.raises(MalformedError, match="canonical"):
            list(packing.compare(members, BytesView(other, "x")))
    store.close()


@pytest.mark.parametrize("pieces", [[b"ab"], [b"ab", b"cd"], []])
def test_a_member_has_the_size_that_was_announced(tmp_path: Path, pieces: List[bytes]) -> None:
    store = Store(tmp_path)
    with pytest.raises(MalformedError):
        store.add("LICENSE", pieces, size=3, where="x")
    store.close()
