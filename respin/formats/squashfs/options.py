"""Compressor options of a squashfs image: the metadata block right behind the superblock (superblock flag 0x400).

They say how mksquashfs compressed the image, so that a changed block can be compressed the same way. Layouts as in
squashfs-tools (``gzip_wrapper.h``, ``xz_wrapper.h``, ``lz4_wrapper.h``, ``lzo_wrapper.h``, ``zstd_wrapper.h``); all
little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Optional, Tuple, Union

from respin.byteview import ByteView, check_range
from respin.errors import MalformedError, UnsupportedError
from respin.formats.squashfs.superblock import COMPRESSOR_OPTIONS, METADATA_SIZE, SIZE, Superblock
from respin.limits import KiB


class Compressor(IntEnum):
    """The superblock's compressor number."""

    GZIP = 1
    LZMA = 2
    LZO = 3
    XZ = 4
    LZ4 = 5
    ZSTD = 6


@dataclass(frozen=True)
class GzipOptions:
    """zlib level, window (log2 of its bytes) and the strategies mksquashfs tries in turn (bit set, 0: the default)."""

    level: int = 9
    window: int = 15
    strategies: int = 0


@dataclass(frozen=True)
class XzOptions:
    """Dictionary size in bytes, and the BCJ filters mksquashfs tries in turn (bit set in xz_wrapper.h's order)."""

    dictionary_size: int
    filters: int = 0


@dataclass(frozen=True)
class Lz4Options:
    """Whether the high-compression mode is used."""

    high_compression: bool = False


@dataclass(frozen=True)
class LzoOptions:
    """The algorithm's number in lzo_wrapper.h (4: lzo1x_999) and its level."""

    algorithm: int = 4
    level: int = 8


@dataclass(frozen=True)
class ZstdOptions:
    """The zstd level."""

    level: int = 15


Options = Union[GzipOptions, XzOptions, Lz4Options, LzoOptions, ZstdOptions]


@dataclass(frozen=True)
class OptionsBlock:
    """The compressor, its options, and where the data region begins (byte offset, behind the options block)."""

    compressor: Compressor
    options: Options
    present: bool
    data_start: int


def read_options(view: ByteView, superblock: Superblock) -> OptionsBlock:
    """Read the options block that ``superblock`` announces, or the defaults of mksquashfs when there is none.

    Raises UnsupportedError for a compressor that isn't supported, MalformedError for options that are out of range.
    """
    try:
        compressor = Compressor(superblock.compressor)
    except ValueError:
        raise UnsupportedError(
            f"squashfs compressor {superblock.compressor} is unknown", where=view.name, finding="squashfs-compressor"
        ) from None
    if compressor is Compressor.LZMA:
        raise UnsupportedError(
            "this squashfs is compressed with lzma (1), which the Linux kernel never read",
            where=view.name,
            finding="squashfs-compressor",
        )
    payload: Optional[bytes] = None
    data_start = SIZE
    if superblock.flags & COMPRESSOR_OPTIONS:
        (header,) = struct.unpack("<H", view.read(SIZE, 2))
        length = header & 0x7FFF
        if not header & 0x8000 or length > METADATA_SIZE:
            raise _bad(view, "the block has an impossible header")
        check_range(view, SIZE + 2, length)
        payload = view.read(SIZE + 2, length)
        data_start = SIZE + 2 + length
        if data_start > superblock.inode_table:
            raise _bad(view, "the block reaches into the inode table")
    return OptionsBlock(compressor, _parse(view, compressor, payload, superblock), payload is not None, data_start)


def _parse(view: ByteView, compressor: Compressor, payload: Optional[bytes], superblock: Superblock) -> Options:
    if compressor is Compressor.GZIP:
        if payload is None:
            return GzipOptions()
        level, window, strategies = _unpack(view, "<IHH", payload)
        if not (1 <= level <= 9 and 8 <= window <= 15 and strategies < 0x20):
            raise _bad(view, f"gzip level {level}, window {window}, strategies {strategies:#x}")
        return GzipOptions(level, window, strategies)
    if compressor is Compressor.XZ:
        if payload is None:
            return XzOptions(superblock.block_size)
        dictionary_size, filters = _unpack(view, "<II", payload)
        if not (4 * KiB <= dictionary_size <= superblock.block_size and filters < 0x40):
            raise _bad(view, f"xz dictionary of {dictionary_size} bytes, filters {filters:#x}")
        return XzOptions(dictionary_size, filters)
    if compressor is Compressor.LZ4:
        if payload is None:
            raise _bad(view, "lz4 images must have one")
        version, flags = _unpack(view, "<II", payload)
        if version != 1 or flags > 1:
            raise _bad(view, f"lz4 version {version}, flags {flags:#x}")
        return Lz4Options(bool(flags))
    if compressor is Compressor.LZO:
        if payload is None:
            return LzoOptions()
        algorithm, level = _unpack(view, "<II", payload)
        if algorithm > 4 or level > 9:
            raise _bad(view, f"lzo algorithm {algorithm}, level {level}")
        return LzoOptions(algorithm, level)
    if payload is None:
        return ZstdOptions()
    (level,) = _unpack(view, "<I", payload)
    if not 1 <= level <= 22:
        raise _bad(view, f"zstd level {level}")
    return ZstdOptions(level)


def _unpack(view: ByteView, layout: str, payload: bytes) -> Tuple[int, ...]:
    if len(payload) != struct.calcsize(layout):
        raise _bad(view, f"{len(payload)} bytes where {struct.calcsize(layout)} are due")
    return struct.unpack(layout, payload)


def _bad(view: ByteView, what: str) -> MalformedError:
    return MalformedError(f"impossible squashfs compressor options: {what}", where=f"{view.name}, byte {SIZE}")
