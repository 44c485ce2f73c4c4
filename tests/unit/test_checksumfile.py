"""Checksum files against sha256sum and its kin, and every line that must be refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.checksumfile import Checksum, parse
from respin.process import run

HEX = "0123456789abcdef" * 4
OTHER = "f" * 64
LONG = "ab" * 64


@pytest.mark.parametrize("options", [[], ["--tag"], ["--binary"]])
@pytest.mark.parametrize("program", ["sha256sum", "sha512sum"])
def test_what_coreutils_write(tmp_path: Path, program: str, options: "list[str]") -> None:
    names = ["node.iso", "with space (1).iso", "ünïcode.iso"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    text = run([program, *options, *names], cwd=str(tmp_path)).stdout
    found = parse(text)
    assert sorted(found) == sorted(names)
    for name in names:
        plain = run([program, name], cwd=str(tmp_path)).stdout.split()[0].decode()
        assert found[name] == Checksum(program[:-3], plain)


def test_a_vendor_like_file() -> None:
    text = (
        f"# Node-4.0.iso: 123456 bytes\nSHA256 (Node-4.0.iso) = {HEX}\n\n# a.iso: 1 bytes\nSHA256 (a.iso) = {OTHER}\n"
    )
    assert parse(text.encode()) == {"Node-4.0.iso": ("sha256", HEX), "a.iso": ("sha256", OTHER)}


def test_upper_case_digits_and_a_missing_last_newline() -> None:
    assert parse(f"{HEX.upper()} *a.iso".encode()) == {"a.iso": ("sha256", HEX)}


def test_sha256_is_preferred_and_weak_ones_beside_it_do_not_count() -> None:
    text = f"MD5 (a) = {'0' * 32}\nSHA512 (a) = {LONG}\nSHA256 (a) = {HEX}\nSHA512 (b) = {LONG}\n{'1' * 40}  c\n"
    assert parse(text.encode()) == {"a": ("sha256", HEX), "b": ("sha512", LONG)}


def test_a_line_may_be_said_twice() -> None:
    assert parse(f"{HEX}  a\nSHA256 (a) = {HEX}\n".encode()) == {"a": ("sha256", HEX)}


@pytest.mark.parametrize("length", [32, 40, 56, 96])
def test_only_weak_checksums(length: int) -> None:
    with pytest.raises(UnsupportedError, match="has only") as caught:
        parse(f"{'a' * length}  node.iso\n".encode())
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        f"{HEX} node.iso",
        f"{HEX}\tnode.iso",
        f"{HEX}  ",
        f"{HEX[:-1]}  node.iso",
        f"{HEX}0  node.iso",
        f"\\{HEX}  no\\nde.iso",
        f" {HEX}  node.iso",
        f"SHA256 (node.iso) = {HEX[:-2]}",
        f"SHA256 (node.iso) = {HEX} ",
        f"SHA256 () = {HEX}",
        f"SHA256(node.iso)= {HEX}",
        f"SHA512 (node.iso) = {HEX}",
        f"BLAKE2b (node.iso) = {LONG}",
        f"{HEX}  node.iso\r",
        f"{HEX}  no\x1b[2Jde.iso",
        "# comment \x07",
        f"{HEX}  node\u202e.iso",
        f"{HEX}  node\u2028.iso",
        "-----BEGIN PGP SIGNATURE-----",
        "Hash: SHA256",
    ],
)
def test_lines_that_are_not_understood_are_refused(line: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(f"{OTHER}  good.iso\n{line}\n".encode(), where="CHECKSUM")
    assert "CHECKSUM, line 2" in str(caught.value)
    assert caught.value.exit_code == 3


def test_one_name_with_two_digests() -> None:
    with pytest.raises(MalformedError, match="two different sha256"):
        parse(f"{HEX}  a\n{OTHER}  a\n".encode())


@pytest.mark.parametrize("text", [b"", b"\n\n", b"# nothing\n", b"\xff\xfe", b"#" * (2 << 20)])
def test_nothing_useful(text: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(text)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda t: f"{HEX}  {t}\n".encode("utf-8", "replace")))
)
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        found = parse(data)
    except RespinError:
        return
    assert found
    for name, checksum in found.items():
        assert len(checksum.hex) == 64
        assert not {unicodedata.category(character) for character in name} & {"Cc", "Cf", "Zl", "Zp"}
