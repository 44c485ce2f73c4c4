"""Giving files of a FAT volume other content: as a list of patches, without a clock, the volume's size unchanged.

A file keeps its clusters as far as it needs them, takes the lowest free ones beyond, and gives back what is left over.
Name, attributes and dates stay as they are.
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, Mapping, Tuple

from respin.byteview import ByteView
from respin.errors import BuildError
from respin.formats.fat.table import Table, links
from respin.formats.fat.volume import FatFile, FatVolume
from respin.safepath import show

_STEP = 512
_INFO_SIGNATURES = ((0, b"RRaA"), (484, b"rrAa"))
_FREE_COUNT, _UNKNOWN = 488, 0xFFFFFFFF


def replace_files(volume: FatVolume, contents: Mapping[str, bytes]) -> Mapping[int, bytes]:
    """The patches (byte offset: new bytes) that give the files at the paths of ``contents`` that content.

    The paths are those of :attr:`FatVolume.files`. Raises BuildError when the volume has no room.
    """
    geometry, table = volume.geometry, volume.table
    writes: List[Tuple[int, bytes]] = []
    for path, content in sorted(contents.items()):
        file = volume.files[path]
        table, chain = _allocate(volume, table, file, len(content))
        for position, number in enumerate(chain):
            piece = content[position * geometry.cluster_size : (position + 1) * geometry.cluster_size]
            writes.append((geometry.cluster(number), piece.ljust(geometry.cluster_size, b"\0")))
        writes.append((file.entry, _entry(volume.view.read(file.entry, 32), chain[0] if chain else 0, len(content))))
    writes += [(offset, table.raw) for offset in geometry.tables]
    writes += _info(volume, table)
    return dict(patch for offset, data in writes for patch in _differing(volume.view, offset, data))


def _allocate(volume: FatVolume, table: Table, file: FatFile, size: int) -> Tuple[Table, Tuple[int, ...]]:
    needed = -(-size // volume.geometry.cluster_size)
    kept, freed = list(file.clusters[:needed]), file.clusters[needed:]
    if len(kept) < needed:
        free = table.free()
        kept += [number for number, _ in zip(free, range(needed - len(kept)))]
    if len(kept) < needed:
        raise BuildError(
            f"there is no room for {size} bytes of {show(file.path)} in the FAT volume",
            where=volume.view.name,
            remedy="the boot image keeps its size; change fewer or shorter arguments",
            finding="fat-full",
        )
    return table.with_entries(links(table.bits, kept, freed)), tuple(kept)


def _entry(raw: bytes, first: int, size: int) -> bytes:
    changed = bytearray(raw)
    struct.pack_into("<H", changed, 20, first >> 16)
    struct.pack_into("<HL", changed, 26, first & 0xFFFF, size)
    return bytes(changed)


def _info(volume: FatVolume, table: Table) -> Iterator[Tuple[int, bytes]]:
    """The free clusters as FAT32 counts them in a sector of their own, if it does."""
    offset = volume.geometry.info
    if offset is None or any(volume.view.read(offset + at, 4) != text for at, text in _INFO_SIGNATURES):
        return
    if volume.view.read(offset + _FREE_COUNT, 4) != struct.pack("<L", _UNKNOWN):
        yield offset + _FREE_COUNT, struct.pack("<L", sum(1 for _ in table.free()))


def _differing(view: ByteView, offset: int, data: bytes) -> Iterator[Tuple[int, bytes]]:
    """The pieces of ``data`` that are not in ``view`` at ``offset`` already."""
    old = view.read(offset, len(data))
    found: Dict[int, bytes] = {}
    last = -1
    for at in range(0, len(data), _STEP):
        piece = data[at : at + _STEP]
        if piece != old[at : at + _STEP]:
            if last >= 0 and last + len(found[last]) == at:
                found[last] += piece
            else:
                last, found[at] = at, piece
    for at, piece in found.items():
        yield offset + at, piece
