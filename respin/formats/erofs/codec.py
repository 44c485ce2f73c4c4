"""Unpacks physical clusters of erofs: the data ends where the cluster ends, and zeros stand in front of it."""

from __future__ import annotations

import importlib
import lzma
import zlib
from typing import Any, Callable, Mapping

from respin.errors import MissingToolError
from respin.limits import MiB

# With data that unpacks to more than is wanted: the lz4 module can't stop early, and no cluster holds more.
_MOST_RATIO = 255
_MOST_UNPACKED = 12 * MiB


class CorruptClusterError(Exception):
    """The data does not unpack, or to another length."""


def unpack(algorithm: str, cluster: bytes, length: int, *, partial: bool, dictionary: int) -> bytes:
    """The ``length`` bytes in a physical cluster; with ``partial`` it holds more. ``dictionary`` is LZMA's, in bytes.

    Raises CorruptClusterError; MissingToolError when a Python module is missing.
    """
    data = cluster.lstrip(b"\0")
    if not data:
        raise CorruptClusterError("there are only zeros")
    content = _UNPACKERS[algorithm](data, length, partial, dictionary)
    if len(content) < length or (len(content) > length and not partial):
        raise CorruptClusterError(f"it holds {len(content)} bytes, not {length}")
    return content[:length]


def _lz4(data: bytes, length: int, partial: bool, _dictionary: int) -> bytes:
    block = _import("lz4.block", "lz4", "LZ4BlockError")
    room = min(_MOST_UNPACKED, _MOST_RATIO * len(data)) if partial else length
    try:
        content: bytes = block.decompress(data, uncompressed_size=max(room, length))
    except (block.LZ4BlockError, ValueError, OverflowError) as error:
        raise CorruptClusterError(str(error)) from error
    return content


def _lzma(data: bytes, length: int, _partial: bool, dictionary: int) -> bytes:
    """MicroLZMA: the first byte of an LZMA stream is always 0, and in its place stand the inverted properties."""
    properties = data[0] ^ 0xFF
    position, rest = divmod(properties, 45)
    literal_position, literal_context = divmod(rest, 9)
    if position > 4 or literal_position + literal_context > 4:
        raise CorruptClusterError(f"LZMA properties {properties:#x}")
    settings = {"dict_size": max(dictionary, 4096), "lc": literal_context, "lp": literal_position, "pb": position}
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, **settings}])
        content = unpacker.decompress(b"\0" + data[1:], max_length=length)
    except lzma.LZMAError as error:
        raise CorruptClusterError(str(error)) from error
    return content


def _deflate(data: bytes, length: int, _partial: bool, _dictionary: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, length)
    except zlib.error as error:
        raise CorruptClusterError(str(error)) from error


def _zstd(data: bytes, length: int, _partial: bool, _dictionary: int) -> bytes:
    zstandard = _import("zstandard", "zstandard", "ZstdError")
    # Streaming, because the one-shot call would allocate whatever size the frame's header claims.
    decompressor = zstandard.ZstdDecompressor(max_window_size=8 * MiB)
    try:
        with decompressor.stream_reader(data) as reader:
            content: bytes = reader.read(length)
    except (zstandard.ZstdError, MemoryError) as error:
        raise CorruptClusterError(str(error)) from error
    return content


def _import(module: str, package: str, error_name: str) -> Any:
    try:
        imported = importlib.import_module(module)
        getattr(imported, error_name)  # a stray directory of the same name imports, too, as an empty package
    except (ImportError, AttributeError) as error:
        raise MissingToolError(
            f"this erofs is compressed with {package}, and the Python module {module} is not installed",
            remedy="pip install respin[compressors]",
        ) from error
    return imported


_UNPACKERS: Mapping[str, Callable[[bytes, int, bool, int], bytes]] = {
    "lz4": _lz4,
    "lzma": _lzma,
    "deflate": _deflate,
    "zstd": _zstd,
}
