"""Compressor options and the block codecs."""

from __future__ import annotations

import importlib
import lzma
import random
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, List, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, MissingToolError, UnsupportedError
from respin.formats.squashfs import Compressor, SquashfsImage
from respin.formats.squashfs.codec import Codec, encode, make_codec
from respin.formats.squashfs.corrupt import CorruptBlock
from respin.formats.squashfs.decodable import of_file, require_decodable
from respin.formats.squashfs.options import GzipOptions, Lz4Options, LzoOptions, Options, XzOptions, ZstdOptions
from tests.support.images import KiB, MiB, build_squashfs

NOISE = random.Random(5).randbytes(5000)
SAMPLE = (b"some text that shrinks " * 300 + NOISE)[: 8 * KiB]


def available(options: Options) -> Codec:
    try:
        return make_codec(options)
    except MissingToolError as error:
        return pytest.skip(str(error))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    (root / "noise").write_bytes(random.Random(6).randbytes(100_000))
    (root / "text").write_bytes(b"a line of text\n" * 20_000)
    return root


@pytest.mark.parametrize(
    ("compressor", "options", "expected"),
    [
        ("gzip", (), GzipOptions()),
        ("gzip", ("-Xcompression-level", "4", "-Xwindow-size", "10"), GzipOptions(4, 10)),
        ("gzip", ("-Xstrategy", "default,huffman_only,fixed"), GzipOptions(9, 15, 0b10101)),
        ("xz", (), XzOptions(128 * KiB)),
        ("xz", ("-Xbcj", "x86,arm", "-Xdict-size", "32K"), XzOptions(32 * KiB, 0b1001)),
        ("zstd", ("-Xcompression-level", "5"), ZstdOptions(5)),
        ("lz4", (), Lz4Options()),
        ("lz4", ("-Xhc",), Lz4Options(True)),
        ("lzo", (), LzoOptions()),
    ],
)
def test_reads_what_mksquashfs_compressed(
    files: Path, tmp_path: Path, compressor: str, options: Sequence[str], expected: Options
) -> None:
    available(expected)
    image = build_squashfs(tmp_path / "image", files, compressor=compressor, options=options)
    opened = SquashfsImage.open(BytesView(image.read_bytes(), "image"))
    assert opened.options.options == expected
    for name in ("noise", "text"):
        assert opened.read_file(name) == (files / name).read_bytes()


def test_a_dictionary_of_a_small_block(files: Path, tmp_path: Path) -> None:
    """mksquashfs makes the dictionary as large as a block, down to 4 KiB, and the kernel takes it for 8 KiB."""
    options = ("-Xbcj", "x86")
    image = build_squashfs(tmp_path / "image", files, compressor="xz", block_size=4 * KiB, options=options)
    opened = SquashfsImage.open(BytesView(image.read_bytes(), "image"))
    assert opened.options.options == XzOptions(4 * KiB, 1)
    assert opened.read_file("text") == (files / "text").read_bytes()
    content = b"a block" * 585
    assert opened.codec.decompress(opened.codec.compress(content), 4 * KiB) == content


ALL: List[Options] = [
    GzipOptions(),
    GzipOptions(1, 8),
    GzipOptions(9, 15, 0b11111),
    XzOptions(8 * KiB),
    XzOptions(64 * KiB, 0b111111),
    ZstdOptions(),
    Lz4Options(),
    Lz4Options(True),
    LzoOptions(),
    LzoOptions(0, 0),
]


@pytest.mark.parametrize("options", ALL, ids=str)
def test_what_is_compressed_comes_back(options: Options) -> None:
    codec = available(options)
    for metadata in (False, True):
        assert codec.decompress(codec.compress(SAMPLE, metadata=metadata), 8 * KiB) == SAMPLE


@pytest.mark.parametrize("options", [ALL[0], ALL[3], *ALL[5:7], ALL[9]], ids=str)
def test_a_bomb_is_refused_before_it_takes_memory(options: Options) -> None:
    codec = available(options)
    bomb = codec.compress(bytes(16 * MiB))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBlock):
            codec.decompress(bomb, 128 * KiB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("options", ALL, ids=str)
def test_damage_is_told_or_harmless(options: Options) -> None:
    codec = available(options)
    packed = codec.compress(SAMPLE)
    rng = random.Random(8)
    for _ in range(100):
        data = bytearray(packed)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        try:
            assert len(codec.decompress(bytes(data), 8 * KiB)) <= 8 * KiB
        except CorruptBlock:
            pass


@pytest.mark.parametrize("options", [GzipOptions(), XzOptions(128 * KiB)], ids=str)
def test_a_stream_that_is_cut_short_is_refused(options: Options) -> None:
    codec = make_codec(options)
    packed = codec.compress(SAMPLE)
    with pytest.raises(CorruptBlock):
        codec.decompress(packed[:-4], 8 * KiB)


def test_gzip_honours_level_window_and_strategy() -> None:
    text = bytes(random.Random(7).choices(b"abcdefgh", k=60_000))
    assert make_codec(GzipOptions(1, 15)).compress(text) == zlib.compress(text, 1)
    assert make_codec(GzipOptions()).compress(text) == zlib.compress(text, 9)
    only = zlib.compressobj(9, zlib.DEFLATED, 15, 8, zlib.Z_HUFFMAN_ONLY)
    huffman = only.compress(text) + only.flush()
    assert make_codec(GzipOptions(9, 15, 0b00100)).compress(text) == huffman
    assert len(make_codec(GzipOptions(9, 15, 0b00101)).compress(text)) == min(len(huffman), len(zlib.compress(text, 9)))


def test_xz_blocks_suit_the_kernel() -> None:
    """It wants CRC32, and a dictionary that is not larger than a block (8 KiB for metadata)."""
    codec = make_codec(XzOptions(128 * KiB))
    for metadata, size in ((False, 128 * KiB), (True, 8 * KiB)):
        packed = codec.compress(SAMPLE, metadata=metadata)
        assert packed[7] == lzma.CHECK_CRC32
        # Block header: size, flags (one filter), filter id 0x21, one byte of properties: the dictionary's size code.
        assert packed[14:16] == b"\x21\x01"
        code = packed[16]
        assert (2 | code & 1) << (code // 2 + 11) == size


@given(st.binary(min_size=1, max_size=3000))
@settings(max_examples=50, deadline=None)
def test_encode_never_grows(data: bytes) -> None:
    codec = make_codec(GzipOptions())
    stored, compressed = encode(codec, data)
    assert len(stored) < len(data) if compressed else stored == data
    assert encode(codec, data, store=True) == (data, False)


@pytest.mark.parametrize(
    ("module", "package", "options"),
    [
        ("zstandard", "zstandard", ZstdOptions()),
        ("lz4.block", "lz4", Lz4Options()),
        ("lzo", "python-lzo", LzoOptions()),
    ],
)
def test_a_missing_module_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, options: Options
) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == module:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingToolError) as caught:
        make_codec(options)
    assert caught.value.remedy == f"pip install {package}"


def test_lzma_is_refused(files: Path, tmp_path: Path) -> None:
    image = build_squashfs(tmp_path / "image", files, compressor="lzma")
    with pytest.raises(UnsupportedError) as caught:
        SquashfsImage.open(BytesView(image.read_bytes(), "image"))
    assert caught.value.finding == "squashfs-compressor"


@pytest.mark.parametrize(
    ("compressor", "options", "payload"),
    [
        ("gzip", ("-Xcompression-level", "4"), struct.pack("<IHH", 0, 15, 0)),
        ("gzip", ("-Xcompression-level", "4"), struct.pack("<IHH", 10, 15, 0)),
        ("gzip", ("-Xcompression-level", "4"), struct.pack("<IHH", 9, 16, 0)),
        ("gzip", ("-Xcompression-level", "4"), struct.pack("<IHH", 9, 15, 0x20)),
        ("xz", ("-Xdict-size", "32K"), struct.pack("<II", 1 << 30, 0)),
        ("xz", ("-Xdict-size", "32K"), struct.pack("<II", 32 * KiB, 0x40)),
    ],
)
def test_options_out_of_range_are_refused(
    files: Path, tmp_path: Path, compressor: str, options: Sequence[str], payload: bytes
) -> None:
    image = bytearray(build_squashfs(tmp_path / "image", files, compressor=compressor, options=options).read_bytes())
    assert struct.unpack_from("<H", image, 96)[0] == 8 | 0x8000
    image[98:106] = payload
    with pytest.raises(MalformedError, match="compressor options"):
        SquashfsImage.open(BytesView(bytes(image), "image"))


def test_compressor_numbers_are_those_of_the_format() -> None:
    assert [c.name for c in sorted(Compressor)] == ["GZIP", "LZMA", "LZO", "XZ", "LZ4", "ZSTD"]


@settings(max_examples=300)
@given(st.binary(max_size=6000), st.lists(st.tuples(st.integers(0, 7000), st.integers(0, 255)), max_size=3), st.data())
def test_the_fast_decompressor_gives_what_zlib_gives(
    content: bytes, damage: "List[tuple[int, int]]", data: st.DataObject
) -> None:
    """What both take, they take for the same bytes: a block has one meaning, here and in the kernel."""
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    packed = bytearray(zlib.compress(content + NOISE[:100] * 5, data.draw(st.integers(0, 9))))
    for at, value in damage:
        packed[at % len(packed)] = value
    found = []
    for module in (zlib, isal_zlib):
        stream = module.decompressobj()
        try:
            found.append((stream.decompress(bytes(packed), 8000), stream.eof))
        except Exception:
            found.append((b"", False))
    if found[0][1] and found[1][1]:
        assert found[0][0] == found[1][0]
    if not damage:
        assert [eof for _content, eof in found] == [True, True]


def xz(data: bytes, check: int = lzma.CHECK_CRC32, size: int = 8 * KiB, before: Sequence[Any] = ()) -> bytes:
    chain = [*before, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": size}]
    return lzma.compress(data, lzma.FORMAT_XZ, check, filters=chain)


@pytest.mark.parametrize(
    "block",
    [
        xz(SAMPLE, lzma.CHECK_CRC64),
        xz(SAMPLE, lzma.CHECK_SHA256),
        xz(SAMPLE, size=2 * MiB),
        xz(SAMPLE, before=[{"id": lzma.FILTER_DELTA, "dist": 4}]),
        xz(SAMPLE, before=[{"id": lzma.FILTER_X86, "start_offset": 16}]),
        xz(SAMPLE, before=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_ARM}]),
    ],
    ids=["crc64", "sha256", "dictionary", "delta", "offset", "two"],
)
def test_what_only_another_decoder_than_the_kernels_reads(block: bytes) -> None:
    """lib/xz of Linux refuses each of them, and the files in such a block could not be read on the Node."""
    codec = make_codec(XzOptions(128 * KiB))
    assert codec.decompress(xz(SAMPLE), 8 * KiB) == SAMPLE
    assert codec.decompress(xz(SAMPLE, before=[{"id": lzma.FILTER_X86}]), 8 * KiB) == SAMPLE
    assert lzma.decompress(block) == SAMPLE
    with pytest.raises(CorruptBlock):
        codec.decompress(block, 8 * KiB)


def test_a_zlib_stream_with_a_window_that_there_is_not() -> None:
    """Intel's library does not look at it; zlib, and so the kernel, does."""
    codec = make_codec(GzipOptions())
    block = bytearray(zlib.compress(SAMPLE))
    codec.check(bytes(block), 8 * KiB)
    block[0], block[1] = 0x88, 31 - 0x8800 % 31
    with pytest.raises(CorruptBlock):
        codec.check(bytes(block), 8 * KiB)


def test_a_zstd_frame_with_a_window_above_a_block() -> None:
    zstandard = pytest.importorskip("zstandard")
    codec = make_codec(ZstdOptions())
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=22, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    block = frame.compress(SAMPLE) + frame.flush()
    assert zstandard.ZstdDecompressor().decompressobj().decompress(block) == SAMPLE
    with pytest.raises(CorruptBlock):
        codec.decompress(block, 8 * KiB)


def test_a_block_of_a_file_that_the_kernel_does_not_read(files: Path, tmp_path: Path) -> None:
    data = bytearray(build_squashfs(tmp_path / "image", files).read_bytes())
    image = SquashfsImage.open(BytesView(bytes(data), "image"))
    file = image.file("/text")
    require_decodable(image, of_file(image, file))
    block = file.blocks[0]
    assert block.is_compressed
    data[block.offset], data[block.offset + 1] = 0x88, 31 - 0x8800 % 31
    changed = SquashfsImage.open(BytesView(bytes(data), "image"))
    require_decodable(changed, of_file(changed, file, [True]))
    with pytest.raises(MalformedError, match="kernel") as caught:
        require_decodable(changed, of_file(changed, file))
    assert caught.value.finding == "malformed"
