"""in-toto attestations: Statement v1 (github.com/in-toto/attestation, spec/v1) and its predicate SLSA Provenance v1
(slsa.dev/spec/v1.0/provenance).

Covered: subjects and resource descriptors with SHA-256 digests, buildDefinition, runDetails, and extension fields,
whose names hold an underscore (``respin_counters``) as SLSA asks for. Stricter than the specifications, which tell
readers to skip what they don't know: an unknown field without an underscore is refused, for nobody would check what it
claims. Writing is canonical: members sorted by name, no white space; reading keeps the bytes as they were received.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Sequence, Tuple, Type, TypeVar

from respin import strictjson
from respin.errors import MalformedError
from respin.limits import LIMITS
from respin.strictjson import Fields

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"

MAX_ITEMS = 100_000
_TEXT = 4096
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+")
_ALGORITHM = re.compile(r"[a-z0-9_]+")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_EXTENSION = re.compile(r"[a-z][a-z0-9]*_[A-Za-z0-9_]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Resource:
    """A ResourceDescriptor: something named by ``name`` or ``uri``, with digests (algorithm -> lower-case hex)."""

    name: str = ""
    uri: str = ""
    digest: Mapping[str, str] = field(default_factory=dict)
    media_type: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The SHA-256 in hex, or an empty string when the descriptor has none."""
        return self.digest.get("sha256", "")

    def to_json(self) -> Dict[str, Any]:
        return _without_empty(
            {
                "name": self.name,
                "uri": self.uri,
                "digest": dict(self.digest),
                "mediaType": self.media_type,
                "annotations": dict(self.annotations),
            }
        )


@dataclass(frozen=True)
class BuildDefinition:
    """What was to be built: a buildType URI, what the user asked for, what the builder added, and the inputs."""

    build_type: str
    external_parameters: Mapping[str, Any]
    internal_parameters: Mapping[str, Any] = field(default_factory=dict)
    resolved_dependencies: Tuple[Resource, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        optional = {
            "internalParameters": dict(self.internal_parameters),
            "resolvedDependencies": [one.to_json() for one in self.resolved_dependencies],
        }
        return {
            "buildType": self.build_type,
            "externalParameters": dict(self.external_parameters),
            **_without_empty(optional),
            **_extensions(self.extensions),
        }


@dataclass(frozen=True)
class Metadata:
    """BuildMetadata: an id and times in UTC (``2026-01-31T12:00:00Z``), each may be empty."""

    invocation_id: str = ""
    started_on: str = ""
    finished_on: str = ""
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        named = {"invocationId": self.invocation_id, "startedOn": self.started_on, "finishedOn": self.finished_on}
        return {**_without_empty(named), **_extensions(self.extensions)}


@dataclass(frozen=True)
class RunDetails:
    """Who built it (a URI, and the versions of its parts), when, and what else came out."""

    builder_id: str
    builder_version: Mapping[str, str] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=Metadata)
    byproducts: Tuple[Resource, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        optional = {
            "metadata": self.metadata.to_json(),
            "byproducts": [one.to_json() for one in self.byproducts],
        }
        builder = {"id": self.builder_id, **_without_empty({"version": dict(self.builder_version)})}
        return {"builder": builder, **_without_empty(optional), **_extensions(self.extensions)}


@dataclass(frozen=True)
class Provenance:
    """The SLSA Provenance v1 predicate."""

    build_definition: BuildDefinition
    run_details: RunDetails
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        return {
            "buildDefinition": self.build_definition.to_json(),
            "runDetails": self.run_details.to_json(),
            **_extensions(self.extensions),
        }


@dataclass(frozen=True)
class Statement:
    """A Statement v1; ``raw`` are its exact bytes, which are what gets signed and hashed."""

    subjects: Tuple[Resource, ...]
    predicate_type: str
    predicate: Mapping[str, Any]
    raw: bytes = field(repr=False)

    def provenance(self, *, where: str = "the statement") -> Provenance:
        """The predicate as SLSA provenance; MalformedError when it is of another type or not as specified."""
        fields = Fields(self.predicate, where=where, place="predicate", finding="bad-statement")
        if self.predicate_type != SLSA_PROVENANCE:
            raise fields.bad(f"is of type {self.predicate_type}, not {SLSA_PROVENANCE}")
        definition = _definition(fields.fields("buildDefinition"))
        details = _run_details(fields.fields("runDetails"))
        return Provenance(definition, details, _take_extensions(fields))


def build(subjects: Sequence[Resource], predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    """The statement with these contents and its canonical bytes; they are read back, so an error in them shows here.

    ``predicate`` is plain data, e.g. ``Provenance(...).to_json()``.
    """
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [subject.to_json() for subject in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    statement = parse(strictjson.encode(document), where="the statement")
    if predicate_type == SLSA_PROVENANCE:
        statement.provenance()
    return statement


def parse(data: bytes, *, where: str) -> Statement:
    """The statement in ``data``; at least one subject, each with a name and a SHA-256. Raises MalformedError."""
    value = strictjson.decode(data, where=where, limit=LIMITS.statement)
    fields = Fields(value, where=where, finding="bad-statement")
    kind = fields.text("_type")
    if kind != STATEMENT_TYPE:
        raise fields.bad(f"is {kind!r}, not {STATEMENT_TYPE!r}", "_type")
    subjects = _resources(fields, "subject")
    if not subjects or not all(subject.name and subject.sha256 for subject in subjects):
        raise fields.bad("needs at least one entry, each with a name and a sha256", "subject")
    predicate_type = fields.text("predicateType", pattern=_URI)
    predicate = _object(fields, "predicate")
    fields.done()
    return Statement(subjects, predicate_type, predicate, bytes(data))


def _definition(fields: Fields) -> BuildDefinition:
    return _done(
        fields,
        BuildDefinition,
        build_type=fields.text("buildType", pattern=_URI),
        external_parameters=_object(fields, "externalParameters"),
        internal_parameters=_object(fields, "internalParameters") if fields.has("internalParameters") else {},
        resolved_dependencies=_resources(fields, "resolvedDependencies"),
        extensions=_take_extensions(fields, done=False),
    )


def _run_details(fields: Fields) -> RunDetails:
    builder = fields.fields("builder")
    builder_id = builder.text("id", pattern=_URI)
    versions = _strings(builder.fields("version")) if builder.has("version") else {}
    builder.done()
    return _done(
        fields,
        RunDetails,
        builder_id=builder_id,
        builder_version=versions,
        metadata=_metadata(fields.fields("metadata")) if fields.has("metadata") else Metadata(),
        byproducts=_resources(fields, "byproducts"),
        extensions=_take_extensions(fields, done=False),
    )


def _metadata(fields: Fields) -> Metadata:
    return _done(
        fields,
        Metadata,
        invocation_id=_optional(fields, "invocationId"),
        started_on=fields.text("startedOn", pattern=_TIME) if fields.has("startedOn") else "",
        finished_on=fields.text("finishedOn", pattern=_TIME) if fields.has("finishedOn") else "",
        extensions=_take_extensions(fields, done=False),
    )


def _resources(fields: Fields, key: str) -> Tuple[Resource, ...]:
    return tuple(resource(one) for one in fields.objects(key, limit=MAX_ITEMS)) if fields.has(key) else ()


def resource(fields: Fields) -> Resource:
    """A ResourceDescriptor, strictly read; raises what ``fields`` raises."""
    digest = {}
    if fields.has("digest"):
        digests = fields.fields("digest")
        for algorithm in digests.names():
            if not _ALGORITHM.fullmatch(algorithm):
                raise digests.bad("is not the name of an algorithm", algorithm[:80])
            digest[algorithm] = (
                digests.sha256(algorithm) if algorithm == "sha256" else digests.text(algorithm, pattern=_HEX)
            )
    return _done(
        fields,
        Resource,
        name=_optional(fields, "name"),
        uri=fields.text("uri", pattern=_URI, limit=_TEXT) if fields.has("uri") else "",
        digest=digest,
        media_type=_optional(fields, "mediaType"),
        annotations=_object(fields, "annotations") if fields.has("annotations") else {},
    )


def _done(fields: Fields, kind: Type[_T], **values: Any) -> _T:
    fields.done()
    return kind(**values)


def _optional(fields: Fields, key: str) -> str:
    return fields.text(key, limit=_TEXT) if fields.has(key) else ""


def _object(fields: Fields, key: str) -> Mapping[str, Any]:
    value: Any = fields.take(key)
    if not isinstance(value, dict):
        raise fields.bad("is not an object", key)
    return value


def _strings(fields: Fields) -> Mapping[str, str]:
    strings = {name: fields.text(name) for name in fields.names()}
    fields.done()
    return strings


def _take_extensions(fields: Fields, *, done: bool = True) -> Mapping[str, Any]:
    extensions = {name: fields.take(name) for name in fields.names() if _EXTENSION.fullmatch(name)}
    if done:
        fields.done()
    return extensions


def _extensions(extensions: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in extensions:
        if not _EXTENSION.fullmatch(name):
            raise MalformedError(
                f"{name!r} cannot be the name of an extension field",
                remedy="name it VENDOR_FIELD, as SLSA asks for",
                finding="bad-statement",
            )
    return extensions


def _without_empty(members: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in members.items() if value not in ("", {}, [], ())}
