"""The ISO as firmware sees it: volume, partition tables, boot catalogue, boot information tables, trees."""

from __future__ import annotations

import struct
from typing import Dict, Iterator, Set, Tuple

from respin.byteview import chunks
from respin.formats.iso9660.eltorito import BOOT_INFO, BootEntry
from respin.formats.iso9660.fields import BLOCK, SECTOR
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.tree import Tree
from respin.lint.model import LintFinding, error, warning
from respin.safepath import show

TRUNCATED = "volume-truncated"
_MASTER_ANEW = "master the ISO anew, or fetch it again if it came like this from somewhere else"
_BIOS = 0x00
_CHECKSUM_FROM = 64  # of the boot file: what lies before is written by the loader's own tools


def structure(iso: IsoImage) -> Iterator[LintFinding]:
    """Everything that is wrong with the structure."""
    if iso.volume_space_size * BLOCK > iso.view.size:
        yield error(
            TRUNCATED,
            "primary volume descriptor",
            f"the volume has {iso.volume_space_size * BLOCK} bytes, the file {iso.view.size}",
            "the file is truncated: fetch it again and compare its checksum",
        )
    yield from _mbr(iso)
    yield from _gpt(iso)
    for entry in iso.boot:
        yield from _boot_entry(iso, entry)
    yield from _trees(iso)


def _mbr(iso: IsoImage) -> Iterator[LintFinding]:
    if iso.system_area.mbr is None:
        return
    for one in iso.system_area.mbr.partitions:
        if one.kind != 0xEE and one.end * SECTOR > iso.view.size:
            yield error(
                "mbr-partition",
                f"MBR partition {one.number}",
                f"it ends at sector {one.end}, behind the end of the file ({iso.view.size // SECTOR} sectors)",
                _MASTER_ANEW,
            )


def _gpt(iso: IsoImage) -> Iterator[LintFinding]:
    gpt = iso.system_area.gpt
    if iso.system_area.broken_gpt:
        yield error("gpt-crc", "GPT", "there is a GPT signature and no table behind it", _MASTER_ANEW)
    if gpt is None:
        return
    if not gpt.primary.valid:
        yield error("gpt-crc", "primary GPT", "a checksum is wrong, or it stands in another place", _MASTER_ANEW)
    if gpt.backup is None or not gpt.backup.valid:
        yield warning(
            "gpt-backup",
            "backup GPT",
            "it is missing, or a checksum in it is wrong",
            "some firmware does not boot a disk without it; the image's end is missing, or it was mastered like this",
        )
    for one in gpt.primary.partitions():
        if (one.last + 1) * SECTOR > iso.view.size:
            yield error(
                "gpt-partition",
                f"GPT partition {one.index + 1}",
                f"its last sector is {one.last}, behind the end of the file ({iso.view.size // SECTOR} sectors)",
                _MASTER_ANEW,
            )


def _boot_entry(iso: IsoImage, entry: BootEntry) -> Iterator[LintFinding]:
    place = f"boot entry for {entry.platform_name}" + (f" ({show(entry.path)})" if entry.path else "")
    if not entry.bootable:
        return
    if entry.lba * BLOCK + max(entry.load_size, 1) * SECTOR > iso.view.size:
        yield error("boot-entry", place, f"its image at block {entry.lba} leaves the file", _MASTER_ANEW)
        return
    if entry.platform != _BIOS or entry.path is None:
        return
    name = entry.path.rpartition("/")[2].lower()
    if name == "isolinux.bin" and not entry.boot_info:
        yield error(
            "boot-info-table",
            place,
            "its boot information table names another place than the image's own, so isolinux does not start",
            "master the ISO with -boot-info-table, and do not move the image afterwards",
        )
    elif entry.boot_info and not _boot_info_holds(iso, entry.path, entry.lba):
        yield error(
            "boot-info-table",
            place,
            "the length or checksum in its boot information table is not the image's",
            "master the ISO with -boot-info-table, and do not change the image afterwards",
        )


def _boot_info_holds(iso: IsoImage, path: str, lba: int) -> bool:
    """Whether length and checksum (the sum of its 32-bit words from byte 64 on) are right."""
    view = iso.file_view(path)
    length, checksum = struct.unpack("<LL", iso.view.read(lba * BLOCK + BOOT_INFO + 8, 8))
    data = b"".join(chunks(view, _CHECKSUM_FROM))
    data += bytes(-len(data) % 4)
    words = struct.unpack(f"<{len(data) // 4}L", data)
    return bool(length == view.size and sum(words) & 0xFFFFFFFF == checksum)


def _trees(iso: IsoImage) -> Iterator[LintFinding]:
    """Whether all trees know the same files. Some tools leave their own files out of one of them: then it is said."""
    first, *others = iso.trees
    mine = _extents(first)
    for other in others:
        theirs = _extents(other)
        for extent in sorted(mine.keys() & theirs.keys()):
            if mine[extent] != theirs[extent]:
                yield error(
                    "trees-differ",
                    f"the trees {first.label} and {other.label}",
                    f"the file at block {extent} has another size in each",
                    _MASTER_ANEW,
                )
        for one, tree, against in ((theirs.keys() - mine.keys(), other, first), (mine.keys() - theirs, first, other)):
            if one:
                yield warning(
                    "trees-differ",
                    f"the tree {tree.label}",
                    f"{len(one)} of its files are not in the tree {against.label}; the first lies at block {min(one)}",
                    "systems that read different trees see different files; add or remove files with a tool for ISOs",
                )


def _extents(tree: Tree) -> Dict[int, Tuple[int, ...]]:
    """The sizes of the files by their first blocks."""
    found: Dict[int, Set[int]] = {}
    for node in tree.nodes():
        if not node.record.is_directory and node.record.size:
            found.setdefault(node.record.extent, set()).add(node.record.size)
    return {extent: tuple(sorted(sizes)) for extent, sizes in found.items()}
