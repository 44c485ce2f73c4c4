"""The restore map: how the vendor's ISO comes back, bit for bit, from the respun ISO alone.

``/respin.restore`` is one line of canonical JSON, a zlib stream (RFC 1950), and zeros up to the file's end. The line
says which ranges of the vendor's ISO stand unchanged in the respun one (``copies``: vendor offset, respun offset,
length); the stream holds the originals of everything else, in order. ``crc32`` has the checksums of
the vendor's ISO in pieces of one MiB, so that damage can be told to a place; what decides is the SHA-256 of all of it.
docs/reference/provenance.md has the fields.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple

from respin import strictjson
from respin.byteview import ByteView, FileView, chunks, is_zero, origin, read_pieces
from respin.digest import PIECE, crc32
from respin.errors import MalformedError, VerificationError
from respin.fanout import FanOut
from respin.limits import LIMITS
from respin.progress import SILENT, Progress
from respin.segments import Copy, Segment
from respin.writing import write_all

SCHEMA = "respin.restore/1"
STEP = 1 << 20
_CRC = 4
_ROOM = 1 << 30  # a stream of zeros unpacks to a thousand times its length, and a disk is soon full

# A range of the vendor's ISO: (offset there, offset in the respun ISO, length).
CopyRange = Tuple[int, int, int]
Range = Tuple[int, int]


@dataclass(frozen=True)
class RestoreMap:
    """What the first line says. ``originals`` and ``packed`` are the stream's lengths, unpacked and packed."""

    size: int
    sha256: str
    checks: Tuple[int, ...]
    copies: Tuple[CopyRange, ...]
    originals: int
    packed: int

    def encode(self) -> bytes:
        """The line, newline included."""
        return (
            strictjson.encode(
                {
                    "schema": SCHEMA,
                    "size": self.size,
                    "sha256": self.sha256,
                    "crc32": base64.b64encode(struct.pack(f">{len(self.checks)}I", *self.checks)).decode("ascii"),
                    "copies": [number for copy in self.copies for number in copy],
                    "originals": self.originals,
                    "packed": self.packed,
                }
            )
            + b"\n"
        )

    def gaps(self) -> Tuple[Range, ...]:
        """The ranges of the vendor's ISO (offset, length) that the stream holds, in order."""
        found, position = [], 0
        for start, _, length in self.copies:
            if start > position:
                found.append((position, start - position))
            position = start + length
        if position < self.size:
            found.append((position, self.size - position))
        return tuple(found)


def copied_ranges(segments: Iterable[Segment], excluded: Sequence[Range]) -> Tuple[CopyRange, ...]:
    """Which ranges of the base stand unchanged in an output made of ``segments``, sorted by their place in the base.

    ``excluded`` are ranges (offset, length) of the output that are overwritten afterwards. A range of the base that
    stands in the output twice counts once.
    """
    found: List[CopyRange] = []
    position = 0
    for segment in segments:
        if isinstance(segment, Copy):
            for start, end in _without(position, position + segment.length, excluded):
                found.append((segment.offset + start - position, start, end - start))
        position += segment.length
    merged: List[CopyRange] = []
    for base, out, length in sorted(found):
        last = merged[-1] if merged else (0, 0, 0)
        skip = max(0, last[0] + last[2] - base)
        if skip >= length:
            continue
        base, out, length = base + skip, out + skip, length - skip
        if merged and last[0] + last[2] == base and last[1] + last[2] == out:
            merged[-1] = (last[0], last[1], last[2] + length)
        else:
            merged.append((base, out, length))
    return tuple(merged)


def _without(start: int, end: int, excluded: Sequence[Range]) -> List[Tuple[int, int]]:
    parts = []
    for offset, length in sorted(excluded):
        if offset >= end or offset + length <= start:
            continue
        if offset > start:
            parts.append((start, offset))
        start = min(end, offset + length)
    if start < end:
        parts.append((start, end))
    return parts


def pack_originals(base: ByteView, gaps: Iterable[Range]) -> bytes:
    """The packed originals: the given ranges of the base, one after the other."""
    packer = zlib.compressobj(6)
    packed = [packer.compress(piece) for offset, length in gaps for piece in chunks(base, offset, length)]
    return b"".join([*packed, packer.flush()])


def parse(view: ByteView) -> Tuple[RestoreMap, int]:
    """The map in a restore file, and where its stream begins. MalformedError for what doesn't hold together."""
    line = view.read(0, min(view.size, LIMITS.restore_map))
    end = line.find(b"\n")
    if end < 0:
        raise _bad("has no end", view)
    document = strictjson.decode(line[:end], where=view.name, limit=LIMITS.restore_map)
    fields = strictjson.Fields(document, where=view.name, finding="bad-restore-map")
    if fields.text("schema") != SCHEMA:
        raise _bad("is of a schema that this version does not know", view)
    size = fields.integer("size")
    encoded = fields.text("crc32", limit=LIMITS.restore_map, empty=True)
    try:
        checks = base64.b64decode(encoded.encode("ascii"), validate=True)
    except ValueError as error:
        raise _bad("holds checksums that are not base64", view) from error
    if len(checks) != _CRC * -(-size // PIECE):
        raise _bad("has not one checksum for each piece", view)
    numbers = fields.array("copies", limit=LIMITS.restore_map // 2)
    if len(numbers) % 3 or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        raise _bad("holds copies that are not triples of numbers", view)
    found = RestoreMap(
        size=size,
        sha256=fields.sha256("sha256"),
        checks=struct.unpack(f">{len(checks) // _CRC}I", checks),
        copies=tuple(zip(numbers[0::3], numbers[1::3], numbers[2::3])),
        originals=fields.integer("originals"),
        packed=fields.integer("packed"),
    )
    fields.done()
    if found.encode() != line[: end + 1]:
        raise _bad("is not in its canonical form", view)
    if sum(length for _, length in found.gaps()) != found.originals:
        raise _bad("and the stream of originals do not make up the vendor's ISO", view)
    return found, end + 1


def validate(found: RestoreMap, out: ByteView, forbidden: Sequence[Range], where: str) -> None:
    """Raise MalformedError unless the copies are sorted, don't overlap, and read only what may be read.

    ``forbidden`` are ranges of the respun ISO that are not the vendor's: statement, slot, media check, the map itself.
    """
    if found.originals > 2 * out.size + _ROOM:
        raise MalformedError(
            f"the restore map's originals would take {found.originals} bytes, for an ISO of {out.size}",
            where=where,
            finding="bad-restore-map",
        )
    position = 0
    for base, source, length in found.copies:
        if length <= 0 or base < position or base + length > found.size:
            raise MalformedError(
                f"the restore map's copy to byte {base} overlaps another or leaves the vendor's ISO",
                where=where,
                finding="bad-restore-map",
            )
        if source < 0 or source + length > out.size:
            raise MalformedError("the restore map reads outside of the ISO", where=where, finding="bad-restore-map")
        if any(source < start + size and start < source + length for start, size in forbidden):
            raise MalformedError(
                f"the restore map takes bytes at {source} for the vendor's that are respin's own",
                where=where,
                finding="bad-restore-map",
            )
        position = base + length


def unpack_originals(found: RestoreMap, view: ByteView, start: int, fd: int) -> None:
    """Write the unpacked originals to ``fd``; MalformedError unless stream and padding are as they should be."""
    if start + found.packed > view.size:
        raise _bad("claims a stream that is longer than the file", view)
    unpacker = zlib.decompressobj()
    written = 0
    try:
        for piece in chunks(view, start, found.packed):
            while piece:
                data = unpacker.decompress(piece, STEP)
                piece = unpacker.unconsumed_tail
                written += len(data)
                if written > found.originals:
                    raise _bad("has more originals than it says", view)
                write_all(fd, data)
    except zlib.error as error:
        raise _bad("holds a damaged stream of originals", view) from error
    if not unpacker.eof or unpacker.unused_data or written != found.originals:
        raise _bad("holds fewer originals than it says", view)
    for piece in chunks(view, start + found.packed):
        if not is_zero(piece):
            raise _bad("is followed by something besides zeros", view)


class RestoredView:
    """The vendor's ISO, put together from the respun ISO and the originals when it is read."""

    def __init__(self, found: RestoreMap, out: ByteView, originals_fd: int, name: str) -> None:
        self._map = found
        self._name = name
        originals = FileView(originals_fd, f"{name}, originals", 0, found.originals)
        ranges: List[Tuple[int, int, ByteView, int]] = [(b, n, out, o) for b, o, n in found.copies]
        position = 0
        for offset, length in found.gaps():
            ranges.append((offset, length, originals, position))
            position += length
        self._ranges = sorted(ranges, key=lambda one: one[0])
        self._starts = [one[0] for one in self._ranges]

    @property
    def size(self) -> int:
        return self._map.size

    @property
    def name(self) -> str:
        return self._name

    def read(self, offset: int, length: int) -> bytes:
        return read_pieces(self, offset, length, self._piece)

    def origin(self, offset: int, length: int) -> Tuple[ByteView, int, int]:
        """See :func:`respin.byteview.origin`."""
        return origin(*self._locate(offset, length))

    def place(self, offset: int) -> str:
        """Where the vendor's byte at ``offset`` comes from, for a message."""
        view, source, _ = self._locate(offset, 1)
        return f"{view.name}, byte {source}"

    def _piece(self, offset: int, length: int) -> bytes:
        view, source, count = self._locate(offset, length)
        return view.read(source, count)

    def _locate(self, offset: int, length: int) -> Tuple[ByteView, int, int]:
        """Which view has the byte at ``offset``, where, and how many of ``length`` lie there together."""
        start, size, view, source = self._ranges[bisect.bisect_right(self._starts, offset) - 1]
        return view, source + offset - start, min(length, start + size - offset)

    def checked(self) -> Iterator[bytes]:
        """All of it in order; VerificationError names the piece that is damaged."""
        for number, expected in enumerate(self._map.checks):
            offset = number * PIECE
            data = self.read(offset, min(PIECE, self.size - offset))
            if crc32(data) != expected:
                raise VerificationError(
                    f"bytes {offset} to {offset + len(data) - 1} of the vendor's ISO do not come back as they were",
                    where=self.place(offset),
                    remedy="the respun ISO is damaged; get it again from its maker",
                    finding="restore-digest",
                )
            yield data

    def verify(self, progress: Progress = SILENT, sink: Callable[[bytes], object] = len) -> str:
        """Hash all of it and return the SHA-256, giving every piece to ``sink`` on the way.

        Raises VerificationError when it is not what the map says; what the sink got is worth nothing then.
        """
        whole = hashlib.sha256()
        with progress.step("restoring the vendor's ISO", self.size) as step, FanOut([whole.update]) as out:
            for data in self.checked():
                out.feed(data)
                step.advance(len(data))
                sink(data)
        if whole.hexdigest() != self._map.sha256:
            raise VerificationError(
                "the vendor's ISO does not come back as the restore map says",
                where=self._name,
                finding="restore-digest",
            )
        return whole.hexdigest()


def _bad(what: str, view: ByteView) -> MalformedError:
    return MalformedError(f"the restore map {what}", where=view.name, finding="bad-restore-map")
