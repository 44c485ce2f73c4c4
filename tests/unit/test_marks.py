"""The marks of a respin: what is appended, what stays, what is higher, and what has no place for a mark."""

from __future__ import annotations

import pytest
import rpm

from respin.errors import UnsupportedError
from respin.node.marks import with_nvr, with_release, with_sentence

SUFFIX = "respin1.0123abcd"


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (b"RELEASE=4\n", b"RELEASE=4.respin1.0123abcd\n"),
        (b"RELEASE='4.el7'\r\n", b"RELEASE='4.el7.respin1.0123abcd'\r\n"),
        (b' RELEASE="20140610.0" \n', b' RELEASE="20140610.0.respin1.0123abcd" \n'),
        (b"RELEASE=1", b"RELEASE=1.respin1.0123abcd"),
    ],
)
def test_a_release_is_made_longer_and_nothing_else_changes(line: bytes, after: bytes) -> None:
    around = b"# RELEASE=no\nVERSION='3'\nOLD_RELEASE=2\n"
    assert with_release(around + line, SUFFIX, "x") == around + after


@pytest.mark.parametrize("data", [b"", b"VERSION=1\n", b"RELEASE=1\nRELEASE=2\n", b"RELEASE='1\n", b"RELEASE=$(x)\n"])
def test_a_file_without_one_plain_release_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="RELEASE") as caught:
        with_release(data, SUFFIX, "x")
    assert caught.value.finding == "marks"


@pytest.mark.parametrize(
    "nvr",
    ["ovirt-node-ng-4.4.10.1-0.20220202.0", "rhvh-4.3.5.4-0.20190920.0", "ovirt-node-ng-image-4.5.5-1.el9"],
)
def test_a_name_version_release_becomes_a_higher_one_of_the_same_name_and_version(nvr: str) -> None:
    after = with_nvr(f"{nvr}\n".encode(), SUFFIX, "x").decode()
    assert after == f"{nvr}.{SUFFIX}\n"
    (name, version, release), (old_name, old_version, old_release) = (
        one.strip().rsplit("-", 2) for one in (after, nvr)
    )
    assert (name, version) == (old_name, old_version)
    assert rpm.labelCompare(("0", version, release), ("0", old_version, old_release)) == 1
    second = with_nvr(nvr.encode(), "respin2.ffffffff", "x").decode().rsplit("-", 1)[1]
    tenth = with_nvr(nvr.encode(), "respin10.00000000", "x").decode().rsplit("-", 1)[1]
    assert rpm.labelCompare(("0", "1", second), ("0", "1", release)) == 1
    assert rpm.labelCompare(("0", "1", tenth), ("0", "1", second)) == 1


@pytest.mark.parametrize("data", [b"", b"name\n", b"a-1-2+1\n", b"a b-1-1", b"a-1-1\nb-1-1\n", b"n" * 90 + b"-1-1"])
def test_what_imgbased_could_not_parse_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedError):
        with_nvr(data, SUFFIX, "x")


@pytest.mark.parametrize(
    ("data", "after"),
    [
        (b"Node 1.0\n", b"Node 1.0 (respun with x-1-1)\n"),
        (b"Node 1.0", b"Node 1.0 (respun with x-1-1)"),
        (b"N\xf6de \nmore\n", b"N\xf6de (respun with x-1-1)\nmore\n"),
    ],
)
def test_a_sentence_stands_at_the_end_of_the_first_line(data: bytes, after: bytes) -> None:
    assert with_sentence(data, "respun with x-1-1", "x") == after
