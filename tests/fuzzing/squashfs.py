"""A squashfs taken apart: decompressed tables and data blocks that can be spoiled, then packed into an image again.

Every reference in it stays right but for what was spoiled: blocks that changed are compressed with the image's own
method, and what lies behind them moves. The inode and directory tables must have one metadata block each, or be stored
uncompressed: then no reference from one into the other changes.
"""

from __future__ import annotations

import lzma
import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from respin.byteview import BytesView
from respin.formats.squashfs import Compressor, SquashfsImage
from respin.formats.squashfs.codec import encode
from respin.formats.squashfs.lookup import SIZE_MASK, STORED_BIT, index
from respin.formats.squashfs.metadata import Table, read_metadata_block
from respin.formats.squashfs.superblock import METADATA_SIZE
from respin.formats.squashfs.xattr import read_xattr_table
from tests.fuzzing.fields import NAME, Field, Fields, Parts, spoil_bytes
from tests.support.images import MiB, damaged

_SUPERBLOCK = (
    *((4, 4, "inode count"), (8, 4, "time"), (12, 4, "block size"), (16, 4, "fragment count"), (20, 2, "compressor")),
    *((22, 2, "block log"), (24, 2, "flags"), (26, 2, "id count"), (28, 2, "version"), (30, 2, "version")),
    *((32, 8, "reference"), (40, 8, "bytes used"), (48, 8, "table"), (56, 8, "table"), (64, 8, "table")),
    *((72, 8, "table"), (80, 8, "table"), (88, 8, "table")),
)
_HEADER = ((0, 2, "type"), (2, 2, "mode"), (4, 2, "id"), (6, 2, "id"), (8, 4, "time"), (12, 4, "number"))
_INODES: Dict[int, Tuple[int, Tuple[Tuple[int, int, str], ...]]] = {
    1: (
        32,
        ((16, 4, "listing block"), (20, 4, "links"), (24, 2, "listing size"), (26, 2, "offset"), (28, 4, "number")),
    ),
    2: (32, ((16, 4, "start"), (20, 4, "fragment"), (24, 4, "tail offset"), (28, 4, "size"))),
    3: (24, ((16, 4, "links"), (20, 4, "target size"))),
    4: (24, ((16, 4, "links"), (20, 4, "device"))),
    6: (20, ((16, 4, "links"),)),
    8: (
        40,
        (
            *((16, 4, "links"), (20, 4, "listing size"), (24, 4, "listing block"), (28, 4, "number")),
            *((32, 2, "index count"), (34, 2, "offset"), (36, 4, "xattr")),
        ),
    ),
    9: (
        56,
        (
            *((16, 8, "start"), (24, 8, "size"), (32, 8, "sparse"), (40, 4, "links"), (44, 4, "fragment")),
            *((48, 4, "tail offset"), (52, 4, "xattr")),
        ),
    ),
}
_INODES[5], _INODES[7] = _INODES[4], _INODES[6]
_INODES[10] = _INODES[3]
_INODES[11] = _INODES[12] = (28, (*_INODES[4][1], (24, 4, "xattr")))
_INODES[13] = _INODES[14] = (24, (*_INODES[6][1], (20, 4, "xattr")))


@dataclass
class Piece:
    """A data or fragment block: where it was, its stored bytes, and the block list entries that give its size."""

    offset: int
    stored: bytes
    sizes: List[Field] = field(default_factory=list)
    compressed: bool = True


@dataclass
class Spoiled:
    """What a case does: other contents of parts, other data blocks, other stored bytes of a part's first block."""

    parts: Dict[str, bytearray]
    pieces: Dict[int, Tuple[bytes, bool]] = field(default_factory=dict)  # by number: stored bytes, whether compressed
    raw: Dict[str, bytes] = field(default_factory=dict)


class SquashfsParts:
    """An image in parts, and what can be spoiled in them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.image = image = SquashfsImage.open(BytesView(data, "seed"))
        superblock = image.superblock
        view, codec = image.view, image.codec
        self._stored: Dict[str, List[bytes]] = {}
        self.parts: Dict[str, bytes] = {"superblock": data[:96], "options": data[96 : image.options.data_start]}
        self._table("inodes", image.inode_table)
        self._table("directories", image.directory_table)
        lookups = [("ids", superblock.id_table, 4 * superblock.id_count)]
        if superblock.fragment_count:
            lookups.append(("fragments", superblock.fragment_table, 16 * superblock.fragment_count))
        lookups.append(("exports", superblock.export_table, 8 * superblock.inode_count))
        if superblock.xattr_table is not None:
            table = read_xattr_table(view, superblock.xattr_table)
            self._table("values", Table(view, codec, table.values_start, table.id_blocks[0]))
            lookups.append(("lists", superblock.xattr_table + 16, 16 * table.count))
        for name, start, size in lookups:
            if start is not None:
                blocks = [read_metadata_block(view, codec, at, len(data)) for at in index(view, start, size, 1)]
                self.parts[name] = b"".join(block.content for block in blocks)
                self._stored[name] = [data[block.offset : block.end] for block in blocks]
        self._multiple = {name for name in ("inodes", "directories") if len(self._stored[name]) > 1}
        assert not self._multiple or superblock.flags & 1, "tables of several blocks must be stored uncompressed"
        self._list: List[Field] = []
        self._starts: List[Field] = []
        self._pieces: Dict[int, Piece] = {}
        self._files: Dict[int, List[Optional[int]]] = {}  # inode number -> where its blocks are; None: a hole
        self._find_fields()
        self.fields = Fields(self._list)
        self.pieces = [self._pieces[at] for at in sorted(self._pieces)]
        self._bombs = bombs(image.compressor, image)

    def spoil(self, rng: random.Random) -> Tuple[bytes, str]:
        """A damaged image, and what was done to it."""
        spoiled = Spoiled({name: bytearray(content) for name, content in self.parts.items()})
        done = []
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            choice = rng.randrange(16)
            if choice < 9:
                done.append(self.fields.spoil(spoiled.parts, rng))
            elif choice < 11:
                name = rng.choice(sorted(spoiled.parts))
                done.append(f"{name}: {spoil_bytes(spoiled.parts[name], rng)}")
            elif choice == 11 and self.pieces:
                done.append(self._spoil_piece(spoiled, rng))
            elif choice == 12:
                name = rng.choice(sorted(self._stored))
                spoiled.raw[name], what = self._block(rng, METADATA_SIZE, self._stored[name][0][2:])
                done.append(f"first block of {name}: {what}")
            else:
                done.append("")  # bytes of the packed image
        data = self.pack(spoiled)
        if "" in done:
            data = damaged(data, rng.getrandbits(32))
        return data, "; ".join(one or "bytes" for one in done)

    def replaced(self, spoiled: Spoiled, number: int, content: bytes) -> None:
        """Give a data block other content, compressed as it should be."""
        spoiled.pieces[number] = encode(self.image.codec, content, store=not self.pieces[number].compressed)

    def whole(self) -> Spoiled:
        """Nothing spoiled yet."""
        return Spoiled({name: bytearray(content) for name, content in self.parts.items()})

    def pack(self, spoiled: Spoiled) -> bytes:
        """The image of what is spoiled."""
        parts, old = spoiled.parts, self.parts
        out = bytearray(parts["superblock"] + parts["options"])
        moved: Dict[int, int] = {}
        for number, piece in enumerate(self.pieces):
            moved[piece.offset] = len(out)
            stored, compressed = spoiled.pieces.get(number, (piece.stored, True))
            if number in spoiled.pieces:
                for size in piece.sizes:
                    if size.get(parts) == size.get(old):  # type: ignore[arg-type]
                        size.put(parts, len(stored) | (0 if compressed else STORED_BIT))
            out += stored
        for start in self._starts:
            at = start.get(old)  # type: ignore[arg-type]
            if start.get(parts) == at and at in moved:
                start.put(parts, moved[at])
        places: Dict[str, int] = {}
        for name in ("inodes", "directories", "fragments", "exports", "ids", "values", "lists"):
            if name not in parts:
                continue
            blocks = self._blocks(name, bytes(parts[name]), spoiled.raw.get(name))
            begins = []
            for block in blocks:
                begins.append(len(out))
                out += block
            places[name] = begins[0] if begins else len(out)
            if name in ("fragments", "exports", "ids", "lists"):
                places[name] = len(out)
                if name == "lists":
                    out += struct.pack("<QII", places["values"], len(parts[name]) // 16, 0)
                out += struct.pack(f"<{len(begins)}Q", *begins)
        for name, at in (
            ("ids", 48),
            ("lists", 56),
            ("inodes", 64),
            ("directories", 72),
            ("fragments", 80),
            ("exports", 88),
        ):
            self._point(parts, at, places.get(name))
        self._point(parts, 40, len(out))
        out[: len(parts["superblock"])] = parts["superblock"]
        return bytes(out)

    def _point(self, parts: Parts, at: int, place: Optional[int]) -> None:
        was = self.parts["superblock"][at : at + 8]
        if place is not None and parts["superblock"][at : at + 8] == was:
            parts["superblock"][at : at + 8] = struct.pack("<Q", place)

    def _blocks(self, name: str, content: bytes, raw: Optional[bytes]) -> List[bytes]:
        if content == self.parts[name]:
            blocks = list(self._stored[name])
        else:
            blocks = []
            for at in range(0, len(content), METADATA_SIZE):
                piece = content[at : at + METADATA_SIZE]
                store = name in self._multiple
                data, compressed = encode(self.image.codec, piece, metadata=True, store=store)
                blocks.append(struct.pack("<H", len(data) | (0 if compressed else 0x8000)) + data)
        if raw is not None and blocks:
            blocks[0] = struct.pack("<H", min(len(raw), 0x7FFF)) + raw
        return blocks

    def _spoil_piece(self, spoiled: Spoiled, rng: random.Random) -> str:
        number = rng.randrange(len(self.pieces))
        stored, what = self._block(rng, self.image.block_size, self.pieces[number].stored)
        spoiled.pieces[number] = stored, rng.random() < 0.9
        return f"data block {number}: {what}"

    def _block(self, rng: random.Random, limit: int, good: bytes) -> Tuple[bytes, str]:
        """A compressed block that is not what it should be."""
        choice = rng.randrange(6)
        if choice < 2 and self._bombs:
            bomb = rng.choice(self._bombs)
            return bomb[:limit], "a bomb" if len(bomb) <= limit else "the beginning of a bomb"
        if choice == 2:
            return rng.randbytes(rng.choice((1, 10, 100, limit))), "noise"
        if choice == 3:
            return good[: rng.randrange(len(good) + 1)], "cut"
        if choice == 4:
            return encode(self.image.codec, bytes(rng.choice((1, 100, limit - 1, limit))))[0], "zeros"
        content = bytearray(good)
        return bytes(content), spoil_bytes(content, rng)

    def _table(self, name: str, table: Table) -> None:
        blocks = list(table.blocks())
        self.parts[name] = b"".join(block.content for block in blocks)
        self._stored[name] = [self.data[block.offset : block.end] for block in blocks]

    def _find_fields(self) -> None:
        add = self._add
        for offset, width, role in _SUPERBLOCK:
            add("superblock", offset, width, role)
        for offset in range(2, len(self.parts["options"]) - 3, 4):
            add("options", offset, 4, "option")
        self._find_inodes()
        for listing, size in self._listings:
            self._find_entries(listing, size)
        for name, size, layout in (
            ("ids", 4, ((0, 4, "owner"),)),
            ("exports", 8, ((0, 8, "export"),)),
            ("lists", 16, ((0, 8, "list place"), (8, 4, "list count"), (12, 4, "list size"))),
            ("fragments", 16, ((0, 8, "fragment start"), (8, 4, "block"), (12, 4, "unused"))),
        ):
            for at in range(0, len(self.parts.get(name, b"")), size):
                for offset, width, role in layout:
                    made = add(name, at + offset, width, role)
                    if role == "fragment start":
                        self._starts.append(made)
        parts: Parts = self.parts  # type: ignore[assignment]
        for at in range(0, len(self.parts.get("fragments", b"")), 16):
            start = Field("fragments", at, 8, "").get(parts)
            self._piece(start, Field("fragments", at + 8, 4, "block"))
        for place, count, _size in struct.iter_unpack("<QII", self.parts.get("lists", b"")):
            self._find_attributes(place & 0xFFFF, count)

    def _find_attributes(self, at: int, count: int) -> None:
        values = self.parts["values"]
        assert len(values) <= METADATA_SIZE, "places are taken to lie in the first block"
        for _ in range(count):
            kind, length = struct.unpack_from("<HH", values, at)
            for offset, width, role in ((0, 2, "xattr kind"), (2, 2, "xattr name size"), (4, length, "xattr name")):
                self._add("values", at + offset, width, role)
            self._add("values", at + 4 + length, 4, "xattr value size")
            at += 8 + length + struct.unpack_from("<I", values, at + 4 + length)[0]
            if kind & 0x100:
                self._add("values", at - 8, 8, "xattr place")

    def _find_inodes(self) -> None:
        inodes = self.parts["inodes"]
        parts: Parts = self.parts  # type: ignore[assignment]
        self._listings: List[Tuple[int, int]] = []
        at = 0
        while at < len(inodes):
            (kind,) = struct.unpack_from("<H", inodes, at)
            size, layout = _INODES[kind]
            found = {role: self._add("inodes", at + offset, width, role) for offset, width, role in (*_HEADER, *layout)}
            numbers = {role: one.get(parts) for role, one in found.items()}
            at += size
            if kind in (2, 9):
                count = numbers["size"] // self.image.block_size
                if numbers["fragment"] == 0xFFFF_FFFF:
                    count = -(-numbers["size"] // self.image.block_size)
                self._starts.append(found["start"])
                place, blocks = numbers["start"], self._files.setdefault(numbers["number"], [])
                for number in range(count):
                    length = self._piece(place, self._add("inodes", at + 4 * number, 4, "block"))
                    blocks.append(place if length else None)
                    place += length
                at += 4 * count
            elif kind in (3, 10):
                self._add("inodes", at, numbers["target size"], "target")
                at += numbers["target size"]
                if kind == 10:
                    self._add("inodes", at, 4, "xattr")
                    at += 4
            elif kind in (1, 8):
                # Blocks of tables that are stored have their header and 8 KiB each.
                block = numbers["listing block"] // (METADATA_SIZE + 2) * METADATA_SIZE
                self._listings.append((block + numbers["offset"], numbers["listing size"] - 3))
                for _ in range(numbers.get("index count", 0)):
                    for offset, role in ((0, "index position"), (4, "listing block"), (8, "index name size")):
                        self._add("inodes", at + offset, 4, role)
                    at += 13 + struct.unpack_from("<I", inodes, at + 8)[0]

    def _find_entries(self, at: int, size: int) -> None:
        content, end = self.parts["directories"], at + size
        while at < end:
            (count,) = struct.unpack_from("<I", content, at)
            for offset, role in ((0, "run"), (4, "inode block"), (8, "number")):
                self._add("directories", at + offset, 4, role)
            at += 12
            for _ in range(count + 1):
                for offset, role in ((0, "offset"), (2, "delta"), (4, "type"), (6, "name size")):
                    self._add("directories", at + offset, 2, role)
                length = struct.unpack_from("<H", content, at + 6)[0] + 1
                self._add("directories", at + 8, length, NAME)
                at += 8 + length

    def _add(self, part: str, offset: int, width: int, role: str) -> Field:
        made = Field(part, offset, width, role)
        self._list.append(made)
        return made

    def _piece(self, at: int, size: Field) -> int:
        stored = size.get(self.parts)  # type: ignore[arg-type]
        length = stored & SIZE_MASK
        if length:
            piece = self._pieces.setdefault(at, Piece(at, self.data[at : at + length], [], not stored & STORED_BIT))
            piece.sizes.append(size)
        return length

    def blocks_of(self, number: int) -> List[Optional[int]]:
        """The numbers of the pieces that are the blocks of the file with this inode number; None: a hole."""
        order = {piece.offset: number for number, piece in enumerate(self.pieces)}
        return [None if at is None else order[at] for at in self._files[number]]


def bombs(compressor: Compressor, image: SquashfsImage) -> List[bytes]:
    """Streams that are sound and unpack to far more than a block, or ask for far more memory."""
    found = [image.codec.compress(bytes(size)) for size in (MiB + 1, 3 * MiB)]
    if compressor is Compressor.GZIP:
        found.append(zlib.compress(bytes(7 * MiB), 9))
    elif compressor is Compressor.XZ:
        large = bytearray(lzma.compress(bytes(24 * MiB), lzma.FORMAT_XZ, lzma.CHECK_CRC32))
        found.append(bytes(large))
        header = 4 * (large[12] + 1)
        large[16] = 40  # a dictionary of 4 GiB
        large[12 + header - 4 : 12 + header] = struct.pack("<I", zlib.crc32(large[12 : 12 + header - 4]))
        found.append(bytes(large))
    elif compressor is Compressor.ZSTD:
        found.append(image.codec.compress(bytes(64 * MiB)))
        # A frame's header that claims 2^61 bytes in one segment, and one that asks for a window of 3.75 TiB.
        found.append(bytes.fromhex("28b52ffde0") + struct.pack("<Q", 1 << 61) + found[0][9:])
        found.append(bytes.fromhex("28b52ffd00ff") + found[0][6:])
    return found
