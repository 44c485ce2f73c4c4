"""Results of tests of an ISO: the file that a test writes, and the predicate that is made of it.

The predicate is in-toto's test result (github.com/in-toto/attestation, spec/predicates/test-result.md, v0.1). The file
has the schema ``respin.test-results/1`` (docs/reference/provenance.md); ``examples/boot-matrix`` writes it, and any
test can.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from respin import strictjson
from respin.formats import dsse, intoto
from respin.limits import LIMITS
from respin.provenance.sidecar import TEST_RESULT
from respin.strictjson import Fields

SCHEMA = "respin.test-results/1"
FINDING = "bad-results"
PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"
MAX_TESTS = 100_000
_RESULT = re.compile("PASSED|WARNED|FAILED")
_URL = re.compile(r"https?://[\x21-\x7e]+")
_MEMBERS = {PASSED: "passedTests", WARNED: "warnedTests", FAILED: "failedTests"}


@dataclass(frozen=True)
class TestResults:
    """What came out of testing an ISO: (name, result) of each test, and what it was tested with."""

    __test__ = False  # its name is the predicate's; it is no test itself

    iso_name: str
    iso_sha256: str
    configuration: Tuple[intoto.Resource, ...]
    tests: Tuple[Tuple[str, str], ...]
    url: str = ""

    @property
    def result(self) -> str:
        """FAILED when one test failed, else WARNED when one warned, else PASSED."""
        found = {result for _, result in self.tests}
        return FAILED if FAILED in found else WARNED if WARNED in found else PASSED

    def named(self, result: str) -> List[str]:
        """The names of the tests with this result, in the order in which they were given."""
        return [name for name, found in self.tests if found == result]

    def predicate(self) -> Dict[str, Any]:
        """The in-toto predicate."""
        document: Dict[str, Any] = {
            "result": self.result,
            "configuration": [one.to_json() for one in self.configuration],
        }
        if self.url:
            document["url"] = self.url
        document.update({member: self.named(result) for result, member in _MEMBERS.items() if self.named(result)})
        return document


_REMEDY = f"give results of the schema {SCHEMA}; docs/how-to/attest-tests.md shows them"


def parse(data: bytes, *, where: str) -> TestResults:
    """Results of the schema ``respin.test-results/1``; at least one test, each with a name of its own.

    Raises MalformedError.
    """
    value = strictjson.decode(data, where=where, limit=LIMITS.manifest)
    fields = Fields(value, where=where, finding=FINDING, remedy=_REMEDY)
    schema = fields.text("schema")
    if schema != SCHEMA:
        raise fields.bad(f"is {schema!r}, not {SCHEMA!r}", "schema")
    iso = fields.fields("iso")
    name, sha256 = iso.text("name"), iso.sha256("sha256")
    iso.done()
    configuration = tuple(_resource(one) for one in fields.objects("configuration", limit=MAX_TESTS))
    tests = tuple(_test(one) for one in fields.objects("tests", limit=MAX_TESTS))
    if not tests:
        raise fields.bad("has no test", "tests")
    if len({name for name, _ in tests}) != len(tests):
        raise fields.bad("names a test twice", "tests")
    url = fields.text("url", pattern=_URL, limit=4096) if fields.has("url") else ""
    fields.done()
    return TestResults(name, sha256, configuration, tests, url)


def _resource(fields: Fields) -> intoto.Resource:
    resource = intoto.resource(fields)
    if not resource.digest and not resource.uri:
        raise fields.bad("needs a digest or a uri")
    return resource


def _test(fields: Fields) -> Tuple[str, str]:
    name, result = fields.text("name"), fields.text("result", pattern=_RESULT)
    if fields.has("seconds"):
        fields.integer("seconds")
    if fields.has("detail"):
        fields.text("detail", limit=4096, empty=True)
    fields.done()
    return name, result


def describe(envelope: dsse.Envelope, *, where: str) -> Dict[str, Any]:
    """What an envelope beside an ISO claims, unverified; of test results their outcome, too. Raises MalformedError."""
    statement = intoto.parse(envelope.payload, where=where)
    found: Dict[str, Any] = {
        "predicate_type": statement.predicate_type,
        "subjects": [{"name": one.name, "sha256": one.sha256} for one in statement.subjects],
        "signatures": [one.keyid for one in envelope.signatures],
    }
    if statement.predicate_type == TEST_RESULT:
        fields = Fields(statement.predicate, where=where, place="predicate", finding="bad-statement")
        found["result"] = fields.text("result", pattern=_RESULT)
        for result, member in _MEMBERS.items():
            names = fields.texts(member, limit=MAX_TESTS, ordered=True) if fields.has(member) else ()
            found[result.lower()] = list(names)
    return found
