"""Compressing and decompressing single squashfs blocks, with the options the image was made with.

gzip (a zlib stream, RFC 1950) and xz (a whole .xz stream: CRC32, LZMA2, optional BCJ filter) come with Python;
:mod:`respin.formats.squashfs.codec_optional` has the others. All of it may be called from several threads at once.
"""

from __future__ import annotations

import ctypes
import importlib
import lzma
import zlib
from typing import Any, Dict, List, Protocol, Tuple

from respin import inflate
from respin.formats.squashfs.codec_optional import Lz4Codec, LzoCodec, ZstdCodec
from respin.formats.squashfs.corrupt import CorruptBlock
from respin.formats.squashfs.options import (
    GzipOptions,
    Lz4Options,
    LzoOptions,
    Options,
    XzOptions,
)
from respin.formats.squashfs.superblock import METADATA_SIZE
from respin.limits import MiB


class Codec(Protocol):
    """One compression method with its options."""

    @property
    def library(self) -> str:
        """Name and version of the library that compresses: another one may give other bytes."""

    def decompress(self, data: bytes, limit: int) -> bytes:
        """The content of a compressed block; raises CorruptBlock when that is damaged or more than ``limit`` bytes."""

    def check(self, data: bytes, limit: int) -> None:
        """As :meth:`decompress`, by the library that refuses what the kernel's refuses, however slow that is."""

    def compress(self, data: bytes, *, metadata: bool = False) -> bytes:
        """``data`` compressed as mksquashfs would; the result may be longer than ``data``."""


def make_codec(options: Options) -> Codec:
    """The codec for an image's options; raises MissingToolError when its Python module is not installed."""
    if isinstance(options, GzipOptions):
        return GzipCodec(options)
    if isinstance(options, XzOptions):
        return XzCodec(options)
    if isinstance(options, Lz4Options):
        return Lz4Codec(options)
    if isinstance(options, LzoOptions):
        return LzoCodec(options)
    return ZstdCodec(options)


def encode(codec: Codec, data: bytes, *, metadata: bool = False, store: bool = False) -> Tuple[bytes, bool]:
    """``data`` as it is stored, and whether that is compressed: what does not shrink is stored as it is."""
    if store:
        return data, False
    packed = codec.compress(data, metadata=metadata)
    return (packed, True) if len(packed) < len(data) else (data, False)


def _liblzma_version() -> str:
    """The version of the library that Python's module was linked with; the module itself does not tell."""
    try:
        version = ctypes.CDLL(importlib.import_module("_lzma").__file__).lzma_version_string
    except (OSError, AttributeError, TypeError):  # built into the interpreter, without a symbol to look up
        return "unknown"
    version.restype = ctypes.c_char_p
    return str(version().decode("ascii"))


def _require_plain_xz(stream: bytes, dictionary: int) -> None:
    """CorruptBlock for a whole and valid stream that the kernel's decoder refuses (Linux, lib/xz/xz_dec_stream.c).

    It knows CRC32 only, one BCJ filter without options in front of LZMA2, and no larger dictionary than the image's.
    """
    flags, at = stream[13], 14
    if stream[6:8] not in (b"\0\0", b"\0\1"):
        raise CorruptBlock("its xz stream has another check than CRC32")
    index = len(stream) - 12 - 4 * (int.from_bytes(stream[-8:-4], "little") + 1)
    if stream[index : index + 2] != b"\0\1":
        raise CorruptBlock("its xz stream has several blocks")
    for present in (flags & 0x40, flags & 0x80):
        while present and stream[at] & 0x80:
            at += 1
        at += 1 if present else 0
    chain = [stream[at : at + 2], stream[at + 2 : at + 4]] if flags & 3 else [stream[at : at + 2]]
    if flags & 2 or chain[-1] != b"\x21\1" or (flags & 1 and (chain[0][1:] != b"\0" or not 4 <= chain[0][0] <= 9)):
        raise CorruptBlock("its xz stream is filtered in a way that the kernel does not know")
    bits = stream[at + 2 * len(chain)]
    if (2 | bits & 1) << bits // 2 + 11 > dictionary:
        raise CorruptBlock("its xz stream asks for a larger dictionary than the image's")


class GzipCodec:
    """zlib streams."""

    library = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    # bit of the options block -> zlib strategy
    _STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)

    def __init__(self, options: GzipOptions) -> None:
        self._options = options
        chosen = [s for bit, s in enumerate(self._STRATEGIES) if options.strategies & 1 << bit]
        self._strategies = chosen or [zlib.Z_DEFAULT_STRATEGY]

    def decompress(self, data: bytes, limit: int) -> bytes:
        stream = inflate.decompressobj()
        try:
            content: bytes = stream.decompress(data, limit + 1)
        except inflate.ERRORS as error:
            raise CorruptBlock(str(error)) from error
        if len(content) > limit:
            raise CorruptBlock(f"it holds more than {limit} bytes")
        if not stream.eof:
            raise CorruptBlock("its zlib stream does not end")
        return content

    def check(self, data: bytes, limit: int) -> None:
        # Intel's library takes what zlib, and so the kernel, does not: windows above 32 KiB, say.
        stream = zlib.decompressobj()
        try:
            content = stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise CorruptBlock(str(error)) from error
        if len(content) > limit or not stream.eof:
            raise CorruptBlock("its zlib stream does not end where it should")

    def compress(self, data: bytes, *, metadata: bool = False) -> bytes:
        best = b""
        for strategy in self._strategies:
            stream = zlib.compressobj(self._options.level, zlib.DEFLATED, self._options.window, 8, strategy)
            packed = stream.compress(data) + stream.flush()
            if not best or len(packed) < len(best):
                best = packed
        return best


class XzCodec:
    """.xz streams."""

    # bit of the options block -> BCJ filter
    _FILTERS = (
        lzma.FILTER_X86,
        lzma.FILTER_POWERPC,
        lzma.FILTER_IA64,
        lzma.FILTER_ARM,
        lzma.FILTER_ARMTHUMB,
        lzma.FILTER_SPARC,
    )
    # A dictionary is at most as large as a block, and that is at most 1 MiB; the decoder needs little more.
    _MEMORY = 16 * MiB

    library = f"liblzma {_liblzma_version()}"

    def __init__(self, options: XzOptions) -> None:
        self._dictionary_size = options.dictionary_size
        self._filters = [f for bit, f in enumerate(self._FILTERS) if options.filters & 1 << bit]

    def decompress(self, data: bytes, limit: int) -> bytes:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=self._MEMORY)
        try:
            content = stream.decompress(data, limit + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise CorruptBlock(str(error)) from error
        if len(content) > limit:
            raise CorruptBlock(f"it holds more than {limit} bytes")
        if not stream.eof:
            raise CorruptBlock("its xz stream does not end")
        if content:
            _require_plain_xz(data[: len(data) - len(stream.unused_data)], max(self._dictionary_size, METADATA_SIZE))
        return content

    def check(self, data: bytes, limit: int) -> None:
        self.decompress(data, limit)

    def compress(self, data: bytes, *, metadata: bool = False) -> bytes:
        size = METADATA_SIZE if metadata else self._dictionary_size
        lzma2: Dict[str, Any] = {"id": lzma.FILTER_LZMA2, "preset": lzma.PRESET_DEFAULT, "dict_size": size}
        chains: List[List[Dict[str, Any]]] = [[lzma2]]
        if not metadata:
            chains += [[{"id": bcj}, lzma2] for bcj in self._filters]
        packed = [lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=chain) for chain in chains]
        return min(packed, key=len)
