"""The erofs superblock: 128 bytes at byte 1024, little-endian; behind it the settings of compression algorithms.

Everything is checked before anything else of the image is read, the checksum first where there is one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import List, Mapping, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS, KiB

OFFSET = 1024
MAGIC = 0xE0F5E1E2
SLOT = 32  # bytes of an inode's number
_LAYOUT = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB3sI16x")
_CHECKSUM, _PLAIN_PREFIXES = 0x1, 0x10
ZERO_PADDING, _SETTINGS, _CHUNKS, _HEAD2, _INLINE_TAILS, _FRAGMENTS, _PREFIXES = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40
_KNOWN = ZERO_PADDING | _SETTINGS | _CHUNKS | _HEAD2 | _INLINE_TAILS | _FRAGMENTS | _PREFIXES
_UNSUPPORTED: Mapping[int, str] = {0x80: "48-bit block numbers", 0x100: "compressed metadata"}
ALGORITHMS: Tuple[str, ...] = ("lz4", "lzma", "deflate", "zstd")
_MOST_DICTIONARY = 8 << 20


@dataclass(frozen=True)
class ErofsSuperblock:
    """The superblock's fields. ``meta`` and ``xattrs`` are byte offsets: of inode 0, and of shared attributes.

    ``epoch`` and ``nanoseconds`` are the time that inodes without a time of their own count from, in seconds since
    1970. ``algorithms`` may be used by compressed files; ``packed`` is the inode that holds fragments, 0 for none.
    ``prefixes`` are the number of long attribute name prefixes and the byte where they begin, in the image or, if
    ``prefixes_packed``, in the content of the packed inode.
    """

    block_size: int
    root: int
    inode_count: int
    epoch: int
    nanoseconds: int
    meta: int
    xattrs: int
    algorithms: Tuple[str, ...]
    dictionary: int
    packed: int
    prefixes: Tuple[int, int]
    prefixes_packed: bool


def is_erofs(view: ByteView) -> bool:
    """Whether ``view`` has the magic number of erofs."""
    return view.size >= OFFSET + _LAYOUT.size and view.read(OFFSET, 4) == MAGIC.to_bytes(4, "little")


def read_superblock(view: ByteView) -> ErofsSuperblock:
    """Parse and check the superblock of ``view``.

    Raises UnsupportedError for something that isn't erofs or uses what is not supported, MalformedError for impossible
    fields.
    """
    if not is_erofs(view):
        raise UnsupportedError("this is not an erofs image", where=view.name, finding="not-erofs")
    raw = view.read(OFFSET, _LAYOUT.size)
    (
        _magic, checksum, compatible, block_bits, slots, root, inode_count, epoch, nanoseconds, blocks, meta, xattrs,
        _uuid, _volume, features, algorithms, devices, _device_slot, directory_bits, prefix_count, prefix_start, packed,
        _filter, _reserved, _build_time,
    ) = _LAYOUT.unpack(raw)  # fmt: skip
    if not 9 <= block_bits <= 16:
        raise malformed(view, f"blocks of 2^{block_bits} bytes")
    block_size = 1 << block_bits
    if compatible & _CHECKSUM and checksum != _checksum(view, block_size):
        raise malformed(view, "the checksum does not fit")
    _refuse(view, features, devices, directory_bits)
    if blocks * block_size > view.size:
        raise malformed(view, f"{blocks} blocks of {block_size} bytes, but there are only {view.size} bytes")
    if inode_count > LIMITS.erofs_inodes:
        raise UnsupportedError(
            f"{inode_count} inodes are more than the limit of {LIMITS.erofs_inodes}", where=view.name
        )
    if not features & _SETTINGS:
        algorithms = 1
    if algorithms >> len(ALGORITHMS):
        raise _unsupported(view, f"the compression algorithms {algorithms:#x}")
    used = tuple(name for number, name in enumerate(ALGORITHMS) if algorithms >> number & 1)
    dictionary = _settings(view, OFFSET + _LAYOUT.size + 16 * slots, used) if features & _SETTINGS else 0
    return ErofsSuperblock(
        block_size=block_size,
        root=root,
        inode_count=inode_count,
        epoch=epoch,
        nanoseconds=nanoseconds,
        meta=meta * block_size,
        xattrs=xattrs * block_size,
        algorithms=used if features & ZERO_PADDING else (),
        dictionary=dictionary,
        packed=packed if features & _FRAGMENTS else 0,
        prefixes=(prefix_count if features & _PREFIXES else 0, prefix_start * 4),
        prefixes_packed=bool(packed) and not compatible & _PLAIN_PREFIXES,
    )


def _refuse(view: ByteView, features: int, devices: int, directory_bits: int) -> None:
    for bit, what in _UNSUPPORTED.items():
        if features & bit:
            raise _unsupported(view, what)
    if features & ~_KNOWN:
        raise _unsupported(view, f"features that are not known ({features & ~_KNOWN:#x})")
    if devices:
        raise _unsupported(view, "further devices")
    if directory_bits:
        raise _unsupported(view, "directories with blocks of another size")


def _settings(view: ByteView, at: int, algorithms: Tuple[str, ...]) -> int:
    """The size of LZMA's dictionary; for each algorithm there are a length and as many bytes."""
    dictionary = 0
    for name in algorithms:
        at = -(-at // 4) * 4
        length = int.from_bytes(view.read(at, 2), "little")
        settings = view.read(at + 2, length)
        at += 2 + length
        if name == "lzma":
            dictionary = int.from_bytes(settings[:4], "little")
            if not 4 * KiB <= dictionary <= _MOST_DICTIONARY or settings[4:6].strip(b"\0"):
                raise malformed(view, f"an LZMA dictionary of {dictionary} bytes")
    return dictionary


def _checksum(view: ByteView, block_size: int) -> int:
    """CRC-32C, not inverted at the end, from the superblock to the end of its block, with its own field as zeros."""
    length = block_size - OFFSET if block_size > OFFSET else block_size
    data = bytearray(view.read(OFFSET, min(length, view.size - OFFSET)))
    data[4:8] = bytes(4)
    value = 0xFFFF_FFFF
    for byte in data:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value


def _crc_table() -> List[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def malformed(view: ByteView, what: str) -> MalformedError:
    """The error for an impossible erofs image."""
    return MalformedError(
        f"impossible erofs image: {what}",
        where=view.name,
        remedy="the image is damaged or truncated; fetch it again and compare its checksum",
    )


def _unsupported(view: ByteView, what: str) -> UnsupportedError:
    return UnsupportedError(f"the erofs image uses {what}", where=view.name, finding="erofs-features")
