"""Results of tests: read strictly, summed up honestly, and kept beside an ISO line by line."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List

import pytest

from respin.errors import MalformedError
from respin.formats import dsse, intoto
from respin.provenance import sidecar, testresult
from tests.support.keys import KeyWorld

SHA = "ab" * 32


def document() -> Dict[str, Any]:
    """A valid file of results."""
    return {
        "schema": "respin.test-results/1",
        "iso": {"name": "out.iso", "sha256": SHA},
        "configuration": [{"name": "qemu", "digest": {"sha256": SHA}, "annotations": {"accelerator": "tcg"}}],
        "tests": [
            {"name": "bios-cd", "result": "PASSED", "seconds": 61, "detail": "starts"},
            {"name": "uefi-usb", "result": "PASSED"},
        ],
        "url": "https://ci.example/run/7",
    }


def parse(value: Any) -> testresult.TestResults:
    return testresult.parse(json.dumps(value).encode(), where="results.json")


def test_the_predicate_says_what_passed() -> None:
    assert parse(document()).predicate() == {
        "result": "PASSED",
        "configuration": [{"name": "qemu", "digest": {"sha256": SHA}, "annotations": {"accelerator": "tcg"}}],
        "url": "https://ci.example/run/7",
        "passedTests": ["bios-cd", "uefi-usb"],
    }


@pytest.mark.parametrize(
    ("results", "whole", "lists"),
    [
        (["PASSED", "WARNED"], "WARNED", {"passedTests": ["bios-cd"], "warnedTests": ["uefi-usb"]}),
        (["FAILED", "WARNED"], "FAILED", {"failedTests": ["bios-cd"], "warnedTests": ["uefi-usb"]}),
        (["FAILED", "PASSED"], "FAILED", {"failedTests": ["bios-cd"], "passedTests": ["uefi-usb"]}),
    ],
)
def test_one_failure_is_a_failure(results: List[str], whole: str, lists: Dict[str, List[str]]) -> None:
    value = document()
    for one, result in zip(value["tests"], results):
        one["result"] = result
    predicate = parse(value).predicate()
    assert predicate["result"] == whole
    assert {name: names for name, names in predicate.items() if name.endswith("Tests")} == lists


def drop(key: str) -> Callable[[Dict[str, Any]], None]:
    return lambda value: value.pop(key)


def put(key: str, what: Any) -> Callable[[Dict[str, Any]], None]:
    return lambda value: value.update({key: what})


@pytest.mark.parametrize(
    "change",
    [
        drop("schema"),
        drop("iso"),
        drop("configuration"),
        drop("tests"),
        put("schema", "respin.test-results/2"),
        put("iso", {"name": "out.iso", "sha256": SHA.upper()}),
        put("iso", {"name": "out.iso", "sha256": SHA, "size": 1}),
        put("tests", []),
        put("tests", [{"name": "a", "result": "PASSED"}, {"name": "a", "result": "FAILED"}]),
        put("tests", [{"name": "a", "result": "passed"}]),
        put("tests", [{"name": "a", "result": "SKIPPED"}]),
        put("tests", [{"name": "", "result": "PASSED"}]),
        put("tests", [{"name": "a\nb", "result": "PASSED"}]),
        put("tests", [{"name": "a", "result": "PASSED", "seconds": -1}]),
        put("tests", [{"name": "a", "result": "PASSED", "seconds": 1.5}]),
        put("tests", [{"name": "a", "result": "PASSED", "more": 1}]),
        put("configuration", [{"name": "neither a digest nor a uri"}]),
        put("configuration", [{"digest": {"sha256": "0"}}]),
        put("url", "javascript:alert(1)"),
        put("result", "PASSED"),
    ],
)
def test_anything_else_is_refused(change: Callable[[Dict[str, Any]], None]) -> None:
    value = document()
    change(value)
    with pytest.raises(MalformedError, match=r"results\.json"):
        parse(value)


def test_a_name_given_twice_is_refused() -> None:
    text = json.dumps(document()).replace('"result": "PASSED"}', '"result": "FAILED", "result": "PASSED"}')
    with pytest.raises(MalformedError) as refused:
        testresult.parse(text.encode(), where="results.json")
    assert refused.value.finding == "bad-json"


class By:
    """A signer for the sidecar's functions."""

    def __init__(self, keys: KeyWorld, name: str) -> None:
        self.keys, self.name, self.fingerprint = keys, name, keys.fingerprints[name]

    def sign_detached(self, data: bytes) -> bytes:
        return self.keys.detach_sign(self.name, data)


def statement(kind: str, predicate: Dict[str, Any], sha256: str = SHA) -> bytes:
    subject = intoto.Resource(name="out.iso", digest={"sha256": sha256})
    return intoto.build([subject], kind, predicate).raw


def test_results_outlive_a_later_signature_by_the_same_key(key_world: KeyWorld) -> None:
    signer = By(key_world, "respin")
    build = "https://example.com/build/v1"
    first = sidecar.renewed(b"", statement(build, {"of": 1}), signer, where="x")
    tested = sidecar.appended(first, statement(sidecar.TEST_RESULT, parse(document()).predicate()), signer, where="x")
    assert tested.startswith(first)
    later = sidecar.renewed(tested, statement(build, {"of": 2}, "cd" * 32), signer, where="x")
    payloads = [json.loads(found.payload) for _, found in sidecar.envelopes(later, where="x")]
    assert [one["predicateType"] for one in payloads] == [sidecar.TEST_RESULT, build]
    assert payloads[1]["predicate"] == {"of": 2}


def test_the_same_results_get_a_further_signature(key_world: KeyWorld) -> None:
    raw = statement(sidecar.TEST_RESULT, parse(document()).predicate())
    bundle = b""
    for name in ("respin", "unknown", "respin"):
        bundle = sidecar.appended(bundle, raw, By(key_world, name), where="x")
    (line,) = bundle.splitlines()
    keyids = [one.keyid for one in dsse.parse(line, where="x").signatures]
    assert keyids == [key_world.fingerprints["unknown"], key_world.fingerprints["respin"]]


def test_a_line_that_is_no_envelope_is_refused(key_world: KeyWorld) -> None:
    raw = statement(sidecar.TEST_RESULT, parse(document()).predicate())
    bundle = sidecar.appended(b"", raw, By(key_world, "respin"), where="x")
    with pytest.raises(MalformedError, match="line 2"):
        sidecar.appended(bundle + b"{}\n", raw, By(key_world, "unknown"), where="x")
