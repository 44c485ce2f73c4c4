"""FAT volumes: read, and files replaced in place; mtools and fsck.fat say whether it is right."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Dict

import pytest

from respin.byteview import BytesView
from respin.errors import BuildError, MalformedError, RespinError, UnsupportedError
from respin.formats.fat import FatVolume, is_fat, replace_files
from tests.support.images import run
from tests.support.iso import noise

# Options of mkfs.vfat, and the size in KiB.
KINDS = {"12": (["-F", "12"], 2880), "16": (["-F", "16"], 16384), "32": (["-F", "32", "-s", "1"], 65536)}
LONG = "/EFI/BOOT/a configuration with a long name.cfg"
FILES = {
    "/EFI/BOOT/grub.cfg": b"linux /vmlinuz quiet\n" * 20,
    "/EFI/BOOT/BOOTX64.EFI": noise("efi", 300_001),
    LONG: b"long\n",
    "/empty.cfg": b"",
}
CFG = "/EFI/BOOT/grub.cfg"


def make(path: Path, kind: str = "12") -> Path:
    """A volume with ``FILES``, fragmented: what comes last lies in a hole as well."""
    options, size = KINDS[kind]
    run("mkfs.vfat", *options, "-i", "12345678", "-C", path, str(size))
    first = path.with_suffix(".first")
    first.write_bytes(noise("hole", 20_000))
    run("mcopy", "-i", path, first, "::hole")
    run("mmd", "-i", path, "::EFI", "::EFI/BOOT")
    for name, content in FILES.items():
        first.write_bytes(content)
        run("mcopy", "-i", path, first, f"::{name}")
        if name == CFG:
            run("mdel", "-i", path, "::hole")
    return path


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    tmp = tmp_path_factory.mktemp("fat")
    return {kind: make(tmp / f"{kind}.img", kind).read_bytes() for kind in KINDS}


def opened(data: bytes) -> FatVolume:
    return FatVolume.open(BytesView(data, "fat.img"))


def patched(data: bytes, contents: Dict[str, bytes]) -> bytes:
    changed = bytearray(data)
    for offset, piece in replace_files(opened(data), contents).items():
        changed[offset : offset + len(piece)] = piece
    return bytes(changed)


def require_clean(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    run("fsck.fat", "-n", path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_reads_what_mtools_wrote(kind: str, volumes: Dict[str, bytes]) -> None:
    volume = opened(volumes[kind])
    assert volume.geometry.bits == int(kind)
    assert {path: volume.read(file) for path, file in volume.files.items()} == FILES
    found = volume.find("/efi/boot/GRUB.CFG")
    assert found is not None
    assert found.path == CFG


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("size", [0, 1, 419, 420, 421, 5000, 60_000])
def test_a_replaced_file_is_what_mtools_reads(kind: str, size: int, volumes: Dict[str, bytes], tmp_path: Path) -> None:
    new = {CFG: noise("new", size), "/empty.cfg": b"no longer\n"}
    after = patched(volumes[kind], new)
    image = tmp_path / "fat.img"
    require_clean(image, after)
    for path, content in {**FILES, **new}.items():
        assert run("mtype", "-i", image, f"::{path}") == content, path
    listed = run("mdir", "-/", "-b", "-i", image)
    require_clean(image, volumes[kind])
    assert listed == run("mdir", "-/", "-b", "-i", image)
    assert len(after) == len(volumes[kind])


def test_the_same_content_needs_no_patch(volumes: Dict[str, bytes]) -> None:
    assert replace_files(opened(volumes["32"]), FILES) == {}


def test_dates_and_names_stay(volumes: Dict[str, bytes]) -> None:
    data = volumes["16"]
    entry = opened(data).files[CFG].entry
    after = patched(data, {CFG: b"x"})
    assert after[entry : entry + 26] == data[entry : entry + 26]
    assert struct.unpack_from("<L", after, entry + 28) == (1,)


def test_a_volume_without_room_is_an_error(volumes: Dict[str, bytes]) -> None:
    with pytest.raises(BuildError, match="no room") as caught:
        replace_files(opened(volumes["12"]), {CFG: bytes(3 << 20)})
    assert caught.value.finding == "fat-full"


def test_bytes_behind_the_volume_are_not_part_of_it(volumes: Dict[str, bytes]) -> None:
    assert opened(volumes["12"] + b"more").geometry.size == len(volumes["12"])


def test_what_is_no_fat_volume_is_none(volumes: Dict[str, bytes]) -> None:
    assert is_fat(BytesView(volumes["12"], "x"))
    assert not is_fat(BytesView(bytes(4096), "x"))
    assert not is_fat(BytesView(b"", "x"))
    assert not is_fat(BytesView(volumes["12"][:100_000], "x"))


def test_tables_that_differ_are_refused(volumes: Dict[str, bytes]) -> None:
    data = bytearray(volumes["16"])
    data[opened(volumes["16"]).geometry.tables[1] + 6] ^= 1
    with pytest.raises(UnsupportedError, match="copies"):
        opened(bytes(data))


@pytest.mark.parametrize("to", [0, 1, "itself", "another"])
def test_a_chain_that_is_none_is_refused(to: object, volumes: Dict[str, bytes]) -> None:
    volume = opened(volumes["16"])
    efi = volume.files["/EFI/BOOT/BOOTX64.EFI"].clusters
    values = {"itself": efi[0], "another": volume.files[LONG].clusters[0]}
    data = bytearray(volumes["16"])
    for table in volume.geometry.tables:
        struct.pack_into("<H", data, table + efi[3] * 2, values.get(str(to), to))
    with pytest.raises(MalformedError):
        opened(bytes(data))


def test_mutated_volumes_give_a_typed_error_or_a_tree(volumes: Dict[str, bytes]) -> None:
    data = volumes["12"]
    places = noise("places", 3000)
    used = opened(data).geometry.data + 60_000
    for number in range(0, 3000, 5):
        broken = bytearray(data)
        place = int.from_bytes(places[number : number + 3], "big") % used
        broken[place] = places[number + 3]
        place = int.from_bytes(places[number : number + 2], "big") % 64
        broken[place] ^= places[number + 4] & 3
        try:
            volume = opened(bytes(broken))
            replace_files(volume, {path: b"x" * 600 for path in volume.files})
        except RespinError:
            continue
