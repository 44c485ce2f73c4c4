"""The media check against isomd5sum's own two programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.formats import mediacheck
from respin.process import run
from tests.support.iso import noise


def make_iso(directory: Path, size: int) -> Path:
    tree = directory / "tree"
    tree.mkdir(parents=True)
    (tree / "file").write_bytes(noise("content", size))
    iso = directory / "x.iso"
    run(["genisoimage", "-quiet", "-o", str(iso), str(tree)])
    return iso


def said_by_checkisomd5(path: Path) -> str:
    done = run(["checkisomd5", str(path)], check=False)
    return (done.stdout + done.stderr).decode()


@pytest.fixture(scope="module")
def implanted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    iso = make_iso(tmp_path_factory.mktemp("implanted"), 2_000_001)
    run(["implantisomd5", str(iso)])
    return iso.read_bytes()


def computed(data: bytes, supported: bool = False) -> bytes:
    hasher = mediacheck.MediaCheckHasher(mediacheck.volume_space_size(BytesView(data, "x")))
    hasher.update(data)
    return hasher.field(supported=supported)


def field(data: bytes) -> bytes:
    return data[mediacheck.FIELD_OFFSET : mediacheck.FIELD_OFFSET + 512]


@pytest.mark.parametrize("size", [0, 100_000, 343_000, 700_000, 1_400_000, 3_333_333])
@pytest.mark.parametrize("supported", [False, True])
def test_the_field_is_what_implantisomd5_writes(tmp_path: Path, size: int, supported: bool) -> None:
    iso = make_iso(tmp_path, size)
    stock = iso.read_bytes()
    ours = computed(stock, supported)
    run(["implantisomd5", *(["--supported-iso"] if supported else []), str(iso)])
    assert ours == field(iso.read_bytes())


def test_checkisomd5_accepts_our_field_and_notices_damage(tmp_path: Path) -> None:
    iso = make_iso(tmp_path, 900_000)
    data = bytearray(iso.read_bytes())
    data[mediacheck.FIELD_OFFSET : mediacheck.FIELD_OFFSET + 512] = computed(bytes(data))
    iso.write_bytes(data)
    assert "PASS" in said_by_checkisomd5(iso)
    assert mediacheck.verify(BytesView(bytes(data), "x")) is mediacheck.Result.PASS
    data[500_000] ^= 1
    iso.write_bytes(data)
    assert "FAIL" in said_by_checkisomd5(iso)
    assert mediacheck.verify(BytesView(bytes(data), "x")) is mediacheck.Result.FAIL


def test_what_is_not_covered(implanted: bytes) -> None:
    """The last 15 sectors and whatever follows the volume don't count, the sector before them does."""
    space = mediacheck.volume_space_size(BytesView(implanted, "x"))
    damaged = bytearray(implanted + b"trailing")
    damaged[(space - 15) * 2048] ^= 1
    assert mediacheck.verify(BytesView(bytes(damaged), "x")) is mediacheck.Result.PASS
    damaged[(space - 15) * 2048 - 1] ^= 1
    assert mediacheck.verify(BytesView(bytes(damaged), "x")) is mediacheck.Result.FAIL


def test_a_truncated_image_fails(implanted: bytes) -> None:
    assert mediacheck.verify(BytesView(implanted[:1_000_000], "x")) is mediacheck.Result.FAIL


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 2_400_000), max_size=12))
def test_pieces_of_any_size_give_the_same_field(implanted: bytes, cuts: "list[int]") -> None:
    hasher = mediacheck.MediaCheckHasher(mediacheck.volume_space_size(BytesView(implanted, "x")))
    edges = [0, *sorted(cuts), len(implanted)]
    for start, end in zip(edges, edges[1:]):
        hasher.update(implanted[start:end])
    assert hasher.complete
    assert hasher.field() == field(implanted)


def test_an_unfinished_sum_is_not_given_out(implanted: bytes) -> None:
    hasher = mediacheck.MediaCheckHasher(mediacheck.volume_space_size(BytesView(implanted, "x")))
    hasher.update(implanted[:1000])
    assert not hasher.complete
    with pytest.raises(ValueError, match="1000 of"):
        hasher.field()


def test_read_and_encode_round_trip(implanted: bytes) -> None:
    check = mediacheck.read(BytesView(implanted, "x"))
    assert check is not None
    assert mediacheck.encode(check) == field(implanted)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ISO MD5SUM = ", b"ISO MD5SUM:= "),
        (b"SKIPSECTORS = 15", b"SKIPSECTORS = -5"),
        (b"RHLISOSTATUS=0", b"RHLISOSTATUS=7"),
        (b"FRAGMENT COUNT = 20", b"FRAGMENT COUNT = 2x"),
        (b"ISO!!", b"ISO!?"),
        (b"ISO!!      ", b"ISO!!    x "),
    ],
)
def test_any_other_text_is_no_media_check(implanted: bytes, old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    assert field(implanted).count(old) == 1
    other = implanted.replace(old, new)
    assert mediacheck.read(BytesView(other, "x")) is None
    assert mediacheck.verify(BytesView(other, "x")) is mediacheck.Result.ABSENT


@pytest.mark.parametrize("size", [0, 5, 32768, 34000])
def test_what_is_no_iso_has_no_media_check(size: int) -> None:
    assert mediacheck.verify(BytesView(bytes(size), "x")) is mediacheck.Result.ABSENT


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 511), byte=st.integers(0, 255))
def test_a_changed_field_never_passes_unless_equal(implanted: bytes, at: int, byte: int) -> None:
    data = bytearray(implanted)
    same = data[mediacheck.FIELD_OFFSET + at] == byte
    data[mediacheck.FIELD_OFFSET + at] = byte
    if at == field(implanted).index(b"STATUS=") + len("STATUS="):
        same = byte in b"01"  # whether the vendor supports the image is no part of the sum
    result = mediacheck.verify(BytesView(bytes(data), "x"))
    assert (result is mediacheck.Result.PASS) == same
