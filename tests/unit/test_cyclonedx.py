"""Bills of materials: valid by CycloneDX's own schema, deterministic, whatever the texts from outside hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from respin.formats.cyclonedx import Bom, Component
from respin.formats.rpmfile import PackageInfo
from respin.provenance.purl import package_url
from tests.support.cyclonedx import errors

SUBJECT = Component("Example Node", "1.0-1", kind="operating-system")
TOOL = Component("respin", "1", kind="application")
GOOD = Component(
    "good",
    "1.0-1",
    purl="pkg:rpm/test/good@1.0-1?arch=noarch",
    description="A test",
    license="GPLv2+ and MIT",
    supplier="Test, Inc.",
    sha256="a" * 64,
    properties={"respin:origin": "plugin"},
)
OTHER = replace(GOOD, name="other", purl="pkg:rpm/test/other@1.0-1?arch=noarch", sha256="")


def test_the_schema_is_content() -> None:
    data = Bom(SUBJECT, [GOOD, OTHER], TOOL, 1_700_000_000, {"respin:scope": "added"}).encode()
    assert errors(data) is None
    document = json.loads(data)
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert [one["name"] for one in document["components"]] == ["good", "other"]
    assert document["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert "hashes" not in document["components"][1]
    assert "timestamp" not in json.loads(Bom(SUBJECT, [], TOOL, None).encode())["metadata"]


def test_the_schema_is_a_judge() -> None:
    data = Bom(SUBJECT, [GOOD], TOOL, 0).encode()
    assert errors(data.replace(b'"library"', b'"nonsense"')) is not None
    assert errors(data.replace(b"urn:uuid:", b"urn:x:")) is not None


def test_the_serial_number_depends_on_the_content_and_on_nothing_else() -> None:
    one, same = Bom(SUBJECT, [GOOD, OTHER], TOOL, 0).encode(), Bom(SUBJECT, [OTHER, GOOD], TOOL, 0).encode()
    assert one == same
    serial = json.loads(one)["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", serial)
    assert serial != json.loads(Bom(SUBJECT, [GOOD], TOOL, 0).encode())["serialNumber"]


def test_two_packages_of_one_name_are_told_apart() -> None:
    document = json.loads(Bom(SUBJECT, [GOOD, replace(GOOD, sha256="b" * 64)], TOOL, 0).encode())
    references = [one["bom-ref"] for one in document["components"]]
    assert references == [GOOD.purl, GOOD.purl + "#2"]
    assert document["dependencies"] == [{"ref": "subject", "dependsOn": references}]


@settings(max_examples=15, deadline=None)
@given(text=st.text(st.characters(), min_size=1, max_size=30))
def test_texts_from_outside_do_no_harm(text: str) -> None:
    component = replace(GOOD, name=text, version=text, description=text, license=text, supplier=text)
    data = Bom(replace(SUBJECT, name=text), [replace(component, properties={"x": text})], TOOL, 0).encode()
    assert errors(data) is None
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", data)


@pytest.mark.parametrize(
    ("vendor", "name", "version", "epoch", "expected"),
    [
        ("Example IHV", "kmod-x", "1.2", None, "pkg:rpm/example-ihv/kmod-x@1.2-1?arch=x86_64"),
        ("Red Hat, Inc.", "gcc-c++", "1.2~rc1", 2, "pkg:rpm/red-hat%2C-inc./gcc-c%2B%2B@1.2~rc1-1?arch=x86_64&epoch=2"),
        ("", "a", "1^git", 0, "pkg:rpm/unknown/a@1%5Egit-1?arch=x86_64"),
        ("A/B", "a", "1", None, "pkg:rpm/a-b/a@1-1?arch=x86_64"),
    ],
)
def test_purls(vendor: str, name: str, version: str, epoch: "int | None", expected: str) -> None:
    header = PackageInfo(name, epoch, version, "1", "x86_64", "", vendor, "", "", (), is_source=False, sha256="")
    assert package_url(header, vendor) == expected
    read = PackageURL.from_string(expected)
    assert (read.type, read.name, read.version, read.qualifiers["arch"]) == ("rpm", name, f"{version}-1", "x86_64")
