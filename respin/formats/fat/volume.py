"""Reading a FAT volume: its geometry, its allocation table, all files by path."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple

from respin.byteview import ByteView, SubView
from respin.errors import MalformedError, UnsupportedError
from respin.formats.fat.table import Table
from respin.safepath import show

_SECTOR_SIZES = (512, 1024, 2048, 4096)
_ENTRY = 32
_LONG_NAME, _VOLUME, _DIRECTORY = 0x0F, 0x08, 0x10
_MAX_DEPTH, _MAX_FILES = 32, 100_000
# Upper bounds on the number of clusters by which the specification tells the three kinds apart.
_FAT12, _FAT16 = 4085, 65525


@dataclass(frozen=True)
class Geometry:
    """Where things lie; offsets and sizes in bytes. ``root_size`` is 0 for FAT32, whose root is a cluster chain."""

    bits: int
    size: int
    cluster_size: int
    clusters: int
    tables: Tuple[int, ...]
    table_size: int
    root: int
    root_size: int
    root_cluster: int
    data: int
    info: Optional[int]

    def cluster(self, number: int) -> int:
        """The offset of a cluster's data; the first one has the number 2."""
        return self.data + (number - 2) * self.cluster_size


@dataclass(frozen=True)
class FatFile:
    """A regular file: its path by long names, where its directory entry stands, its clusters in order."""

    path: str
    size: int
    entry: int
    clusters: Tuple[int, ...]


@dataclass(frozen=True)
class FatVolume:
    """An opened volume."""

    view: ByteView
    geometry: Geometry
    table: Table
    files: Mapping[str, FatFile]

    @classmethod
    def open(cls, view: ByteView) -> "FatVolume":
        """Read everything but the contents; ``view`` may go on behind the volume.

        Raises MalformedError for what does not hold together, UnsupportedError for kinds that are not covered.
        """
        geometry = read_geometry(view)
        table = Table.read(view, geometry.bits, geometry.tables, geometry.table_size, geometry.clusters)
        return cls(view, geometry, table, _Reader(view, geometry, table).files())

    def find(self, path: str) -> Optional[FatFile]:
        """The file at ``path``, upper and lower case alike; None when there is none."""
        wanted = path.casefold()
        return next((file for name, file in self.files.items() if name.casefold() == wanted), None)

    def read(self, file: FatFile) -> bytes:
        """The content of a file."""
        size = self.geometry.cluster_size
        pieces = [self.view.read(self.geometry.cluster(number), size) for number in file.clusters]
        return b"".join(pieces)[: file.size]


def is_fat(view: ByteView) -> bool:
    """Whether ``view`` begins like a FAT volume whose size is known."""
    try:
        read_geometry(view)
    except (MalformedError, UnsupportedError):
        return False
    return True


def read_geometry(view: ByteView) -> Geometry:
    """The geometry that the boot sector says; MalformedError unless it is one."""
    if view.size < 512:
        raise _bad(view, 0, "the volume is shorter than a sector")
    raw = view.read(0, 512)
    sector, per_cluster, reserved, tables, root_entries, small, _media, table16 = struct.unpack_from(
        "<HBHBHHBH", raw, 11
    )
    (large,) = struct.unpack_from("<L", raw, 32)
    if raw[510:512] != b"\x55\xaa" or sector not in _SECTOR_SIZES or not 1 <= tables <= 4 or not reserved:
        raise _bad(view, 0, "this is no FAT volume")
    if per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise _bad(view, 13, f"a cluster cannot have {per_cluster} sectors")
    table32, flags, version, root_cluster, info = struct.unpack_from("<LHHLH", raw, 36)
    is_32 = table16 == 0
    table_size = (table32 if is_32 else table16) * sector
    root = (reserved * sector) + tables * table_size
    root_size = -(-root_entries * _ENTRY // sector) * sector
    size = (small or large) * sector
    data = root + root_size
    clusters = (size - data) // (per_cluster * sector)
    if not table_size or clusters < 1 or size > view.size:
        raise _bad(view, 0, f"a FAT volume of {size} bytes cannot be in {view.size}")
    bits = 32 if is_32 else 12 if clusters < _FAT12 else 16
    if (bits != 32 and clusters >= _FAT16) or (clusters + 2) * bits > table_size * 8:
        raise _bad(view, 22, f"its allocation table is too small for {clusters} clusters")
    if is_32 and (root_entries or version or not 2 <= root_cluster < clusters + 2):
        raise _bad(view, 36, "the fields of FAT32 contradict each other")
    if is_32 and flags & 0x80:
        raise UnsupportedError("the copies of the allocation table are not kept alike", where=view.name, finding="fat")
    return Geometry(
        bits=bits,
        size=size,
        cluster_size=per_cluster * sector,
        clusters=clusters,
        tables=tuple(reserved * sector + number * table_size for number in range(tables)),
        table_size=table_size,
        root=root,
        root_size=root_size,
        root_cluster=root_cluster if is_32 else 0,
        data=data,
        info=info * sector if is_32 and 0 < info < reserved else None,
    )


class _Reader:
    """Walks the directories; no cluster may belong to two chains."""

    def __init__(self, view: ByteView, geometry: Geometry, table: Table) -> None:
        self._view, self._geometry, self._table = view, geometry, table
        self._used: Set[int] = set()

    def files(self) -> Mapping[str, FatFile]:
        geometry = self._geometry
        if geometry.root_size:
            places = [(geometry.root, geometry.root_size)]
        else:
            places = self._places(self._chain(geometry.root_cluster, "/"))
        found: Dict[str, FatFile] = {}
        self._walk(places, "", found, 0)
        return dict(sorted(found.items()))

    def _walk(self, places: List[Tuple[int, int]], parent: str, found: Dict[str, FatFile], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _bad(self._view, places[0][0], "directories are nested too deeply")
        for offset, raw, name in _entries(self._view, places):
            path = f"{parent}/{name}"
            first = struct.unpack_from("<H", raw, 26)[0] | (struct.unpack_from("<H", raw, 20)[0] << 16)
            first = first if self._geometry.bits == 32 else first & 0xFFFF
            (size,) = struct.unpack_from("<L", raw, 28)
            if raw[11] & _DIRECTORY:
                if name not in (".", ".."):
                    self._walk(self._places(self._chain(first, path)), path, found, depth + 1)
                continue
            clusters = self._chain(first, path) if first else ()
            if len(clusters) != -(-size // self._geometry.cluster_size):
                raise _bad(self._view, offset, f"{show(path)} has {size} bytes and {len(clusters)} clusters")
            if path in found or len(found) >= _MAX_FILES:
                raise _bad(self._view, offset, f"{show(path)} is there twice, or there are too many files")
            found[path] = FatFile(path, size, offset, clusters)

    def _chain(self, first: int, path: str) -> Tuple[int, ...]:
        chain: List[int] = []
        for number in self._table.chain(first, f"{self._view.name}:{show(path)}"):
            if number in self._used:
                raise _bad(self._view, self._geometry.cluster(number), f"{show(path)} shares a cluster with another")
            self._used.add(number)
            chain.append(number)
        return tuple(chain)

    def _places(self, clusters: Tuple[int, ...]) -> List[Tuple[int, int]]:
        return [(self._geometry.cluster(number), self._geometry.cluster_size) for number in clusters]


def _entries(view: ByteView, places: List[Tuple[int, int]]) -> Iterator[Tuple[int, bytes, str]]:
    """Offset, bytes and name of each entry of a directory that is a file or a directory."""
    long: Dict[int, str] = {}
    check = -1
    for start, length in places:
        data = SubView(view, start, length, view.name).read(0, length)
        for at in range(0, length, _ENTRY):
            raw = data[at : at + _ENTRY]
            if raw[0] == 0:
                return
            if raw[0] == 0xE5:
                long = {}
            elif raw[11] & 0x3F == _LONG_NAME:
                if raw[0] & 0x40:
                    long, check = {}, raw[13]
                if raw[13] == check:
                    units = raw[1:11] + raw[14:26] + raw[28:32]
                    long[raw[0] & 0x3F] = units.decode("utf-16-le", "replace")
            else:
                name = "".join(long[number] for number in sorted(long)).split("\0")[0].rstrip("\uffff")
                whole = sorted(long) == list(range(1, len(long) + 1)) and check == _checksum(raw[:11])
                long = {}
                if not raw[11] & _VOLUME:
                    yield start + at, raw, name if name and whole else _short(raw)


def _short(raw: bytes) -> str:
    base = (b"\xe5" + raw[1:8] if raw[0] == 0x05 else raw[:8]).rstrip(b" ").decode("cp437")
    extension = raw[8:11].rstrip(b" ").decode("cp437")
    base = base.lower() if raw[12] & 0x08 else base
    extension = extension.lower() if raw[12] & 0x10 else extension
    return f"{base}.{extension}" if extension else base


def _checksum(name: bytes) -> int:
    """Of a short name, as it stands in the entries of its long one."""
    found = 0
    for byte in name:
        found = (((found & 1) << 7) + (found >> 1) + byte) & 0xFF
    return found


def _bad(view: ByteView, offset: int, what: str) -> MalformedError:
    return MalformedError(what, where=f"{view.name}, byte {offset}", finding="bad-fat")
