"""Squashfs compression methods that need a Python module of their own: zstd, lz4 and lzo.

The modules are imported when an image asks for them; MissingToolError names the package when one isn't there.
"""

from __future__ import annotations

import importlib
from typing import Any

from respin.errors import MissingToolError
from respin.formats.squashfs.corrupt import CorruptBlock
from respin.formats.squashfs.options import Lz4Options, LzoOptions, ZstdOptions
from respin.formats.squashfs.superblock import METADATA_SIZE


def _import(module: str, package: str, compression: str, error_name: str) -> Any:
    try:
        imported = importlib.import_module(module)
        getattr(imported, error_name)  # a stray directory of the same name imports, too, as an empty package
    except (ImportError, AttributeError) as error:
        raise MissingToolError(
            f"this squashfs is compressed with {compression}, and the Python module {module} is not installed",
            remedy=f"pip install {package}",
        ) from error
    return imported


class ZstdCodec:
    """One zstd frame per block (RFC 8878)."""

    def __init__(self, options: ZstdOptions) -> None:
        self._zstandard = _import("zstandard", "zstandard", "zstd", "ZstdError")
        self._level = options.level
        self.library = "zstd " + ".".join(str(part) for part in self._zstandard.ZSTD_VERSION)

    def decompress(self, data: bytes, limit: int) -> bytes:
        # Streaming, because the one-shot call would allocate whatever size the frame's header claims.
        # The kernel has room for a window of a block.
        decompressor = self._zstandard.ZstdDecompressor(max_window_size=max(limit, METADATA_SIZE))
        try:
            with decompressor.stream_reader(data) as reader:
                content: bytes = reader.read(limit + 1)
        except (self._zstandard.ZstdError, MemoryError) as error:
            raise CorruptBlock(str(error)) from error
        if len(content) > limit:
            raise CorruptBlock(f"it holds more than {limit} bytes")
        return content

    def check(self, data: bytes, limit: int) -> None:
        self.decompress(data, limit)

    def compress(self, data: bytes, *, metadata: bool = False) -> bytes:
        packed: bytes = self._zstandard.ZstdCompressor(level=self._level).compress(data)
        return packed


class Lz4Codec:
    """Bare lz4 blocks, without a frame."""

    def __init__(self, options: Lz4Options) -> None:
        self._block = _import("lz4.block", "lz4", "lz4", "LZ4BlockError")
        self._high_compression = options.high_compression
        self.library = f"lz4 {importlib.import_module('lz4').library_version_string()}"

    def decompress(self, data: bytes, limit: int) -> bytes:
        try:
            content: bytes = self._block.decompress(data, uncompressed_size=limit)
        except (self._block.LZ4BlockError, ValueError, OverflowError) as error:
            raise CorruptBlock(str(error)) from error
        return content

    def check(self, data: bytes, limit: int) -> None:
        self.decompress(data, limit)

    def compress(self, data: bytes, *, metadata: bool = False) -> bytes:
        if self._high_compression:
            packed: bytes = self._block.compress(data, mode="high_compression", compression=12, store_size=False)
        else:
            packed = self._block.compress(data, mode="default", store_size=False)
        return packed


class LzoCodec:
    """Bare LZO1X blocks, without a header."""

    def __init__(self, options: LzoOptions) -> None:
        self._lzo = _import("lzo", "python-lzo", "lzo", "error")
        self._options = options
        self.library = f"lzo {self._lzo.LZO_VERSION_STRING.decode('ascii')}"

    def decompress(self, data: bytes, limit: int) -> bytes:
        try:
            content: bytes = self._lzo.decompress(data, False, limit)
        except self._lzo.error as error:
            raise CorruptBlock(str(error)) from error
        return content

    def check(self, data: bytes, limit: int) -> None:
        self.decompress(data, limit)

    def compress(self, data: bytes, *, metadata: bool = False) -> bytes:
        # python-lzo knows lzo1x_1 (level 1) and lzo1x_999 (level 9).
        packed: bytes = self._lzo.compress(data, 9 if self._options.algorithm == 4 else 1, False)
        return packed
