"""in-toto Statement v1 and SLSA Provenance v1: what is written, what is read, what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError
from respin.formats import intoto
from respin.formats.intoto import BuildDefinition, Metadata, Provenance, Resource, RunDetails

SUBJECT = Resource(name="respun.iso", digest={"sha256": "ab" * 32})
PROVENANCE = Provenance(
    BuildDefinition(
        build_type="https://example.com/respin/v1",
        external_parameters={"plugins": ["exnic"], "force": False},
        internal_parameters={"epoch": 1700000000},
        resolved_dependencies=(
            Resource(name="node.iso", digest={"sha256": "cd" * 32}, annotations={"role": "base"}),
            Resource(uri="pkg:rpm/exnic@1.0-1?arch=x86_64", digest={"sha256": "ef" * 32, "sha512": "01" * 64}),
        ),
        extensions={"respin_order": ["exnic"]},
    ),
    RunDetails(
        builder_id="https://example.com/builder",
        builder_version={"respin": "1.0"},
        metadata=Metadata(started_on="2026-01-31T12:00:00Z", extensions={"respin_counters": {"reused": 99}}),
        byproducts=(Resource(name="delta.json", digest={"sha256": "22" * 32}, media_type="application/json"),),
        extensions={"respin_tools": {"rpm": "4.18"}},
    ),
)


def statement() -> intoto.Statement:
    return intoto.build([SUBJECT], intoto.SLSA_PROVENANCE, PROVENANCE.to_json())


def test_the_statement_as_the_specification_spells_it() -> None:
    document = json.loads(statement().raw)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"] == [{"name": "respun.iso", "digest": {"sha256": "ab" * 32}}]
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = document["predicate"]["buildDefinition"]
    assert set(definition) == {
        "buildType", "externalParameters", "internalParameters", "resolvedDependencies", "respin_order",
    }  # fmt: skip
    assert definition["resolvedDependencies"][0] == {
        "name": "node.iso",
        "digest": {"sha256": "cd" * 32},
        "annotations": {"role": "base"},
    }
    details = document["predicate"]["runDetails"]
    assert details["builder"] == {"id": "https://example.com/builder", "version": {"respin": "1.0"}}
    assert details["metadata"] == {"startedOn": "2026-01-31T12:00:00Z", "respin_counters": {"reused": 99}}
    assert details["byproducts"][0]["mediaType"] == "application/json"


def test_round_trip_keeps_the_bytes() -> None:
    written = statement()
    spaced = json.dumps(json.loads(written.raw), indent=1).encode()
    for data in (written.raw, spaced):
        read = intoto.parse(data, where="x")
        assert read.raw == data
        assert read.subjects == (SUBJECT,)
        assert read.provenance() == PROVENANCE


def test_writing_is_deterministic_and_does_not_depend_on_the_order_of_members() -> None:
    other = copy.deepcopy(PROVENANCE.to_json())
    other["buildDefinition"] = dict(reversed(list(other["buildDefinition"].items())))
    assert intoto.build([SUBJECT], intoto.SLSA_PROVENANCE, other).raw == statement().raw
    assert b"\n" not in statement().raw


def test_another_predicate_is_kept_as_plain_data() -> None:
    kind = "https://slsa.dev/verification_summary/v1"
    read = intoto.parse(intoto.build([SUBJECT], kind, {"verificationResult": "PASSED"}).raw, where="x")
    assert (read.predicate_type, read.predicate) == (kind, {"verificationResult": "PASSED"})
    with pytest.raises(MalformedError, match="is of type"):
        read.provenance()


def _set(*path: Any) -> Callable[[Dict[str, Any]], None]:
    *way, last, value = path

    def change(document: Dict[str, Any]) -> None:
        inner: Any = document
        for step in way:
            inner = inner[step]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value

    return change


DEFINITION = ("predicate", "buildDefinition")
DETAILS = ("predicate", "runDetails")


@pytest.mark.parametrize(
    "change",
    [
        _set("_type", "https://in-toto.io/Statement/v0.1"),
        _set("_type", KeyError),
        _set("extra", 1),
        _set("subject", []),
        _set("subject", KeyError),
        _set("subject", 0, "digest", {"sha512": "ab" * 64}),
        _set("subject", 0, "digest", "sha256", "AB" * 32),
        _set("subject", 0, "digest", "sha256", "ab" * 31),
        _set("subject", 0, "digest", "SHA 256", "ab"),
        _set("subject", 0, "name", ""),
        _set("subject", 0, "name", "x\u001b[31m"),
        _set("subject", 0, "uid", "x"),
        _set("predicateType", "provenance"),
        _set("predicate", []),
        _set("predicate", "unknown", 1),
        _set(*DEFINITION, "buildType", KeyError),
        _set(*DEFINITION, "buildType", "not a uri"),
        _set(*DEFINITION, "externalParameters", KeyError),
        _set(*DEFINITION, "externalParameters", 1),
        _set(*DEFINITION, "unknown", 1),
        _set(*DEFINITION, "resolvedDependencies", {}),
        _set(*DEFINITION, "resolvedDependencies", 0, "digest", "sha256", "xyz"),
        _set(*DETAILS, "builder", KeyError),
        _set(*DETAILS, "builder", "id", 1),
        _set(*DETAILS, "builder", "other", 1),
        _set(*DETAILS, "builder", "version", "respin", 1),
        _set(*DETAILS, "metadata", "startedOn", "yesterday"),
        _set(*DETAILS, "metadata", "unknown", "x"),
        _set(*DETAILS, "unknown", "x"),
    ],
)
def test_refused(change: Callable[[Dict[str, Any]], None]) -> None:
    document = json.loads(statement().raw)
    change(document)
    with pytest.raises(MalformedError):
        intoto.parse(json.dumps(document).encode(), where="x").provenance()


def test_an_extension_must_be_named_like_one() -> None:
    with pytest.raises(MalformedError, match="extension"):
        RunDetails("https://example.com/b", extensions={"tools": 1}).to_json()


def test_what_could_not_be_read_back_is_not_written() -> None:
    with pytest.raises(MalformedError):
        intoto.build([Resource(name="x")], intoto.SLSA_PROVENANCE, PROVENANCE.to_json())
    with pytest.raises(MalformedError):
        intoto.build([SUBJECT], intoto.SLSA_PROVENANCE, {})


@given(st.integers(0), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damage_is_refused_or_parsed_never_a_traceback(position: int, byte: int) -> None:
    data = bytearray(statement().raw)
    data[position % len(data)] = byte
    try:
        read = intoto.parse(bytes(data), where="x")
        read.provenance()
    except MalformedError:
        return
    assert read.raw == bytes(data)
