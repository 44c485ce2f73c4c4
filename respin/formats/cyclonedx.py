"""CycloneDX 1.6 in JSON (ECMA-424), written only: a bill of materials of components without services.

Covered: components with purl, hashes, licenses by name, supplier and properties; metadata with time, tool and subject.
cyclonedx-python-lib could write it, too. It would bring a library for licence expressions and one for serialising along
for a page of JSON, so that it only judges here, in the tests. The document is canonical: nothing in it depends on the
clock, and the serial number is made from its content.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Optional, Sequence

from respin import strictjson
from respin.digest import sha256_hex
from respin.safepath import show

SPEC_VERSION = "1.6"


@dataclass(frozen=True)
class Component:
    """A component; every text may come from outside and is made printable. ``sha256`` is that of its package file."""

    name: str
    version: str
    kind: str = "library"
    purl: str = ""
    description: str = ""
    license: str = ""
    supplier: str = ""
    sha256: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, reference: str) -> Dict[str, Any]:
        """The component object, known to the rest of the document as ``reference``."""
        texts = {
            "type": self.kind,
            "bom-ref": reference,
            "name": show(self.name),
            "version": show(self.version),
            "purl": self.purl,
            "description": show(self.description),
        }
        found: Dict[str, Any] = {key: value for key, value in texts.items() if value}
        if self.supplier:
            found["supplier"] = {"name": show(self.supplier)}
        if self.license:
            found["licenses"] = [{"license": {"name": show(self.license)}}]
        if self.sha256:
            found["hashes"] = [{"alg": "SHA-256", "content": self.sha256}]
        if self.properties:
            found["properties"] = _properties(self.properties)
        return found


@dataclass(frozen=True)
class Bom:
    """A bill of materials: what ``subject`` is made of. ``time`` is in seconds since 1970, None if nobody knows."""

    subject: Component
    components: Sequence[Component]
    tool: Component
    time: Optional[int]
    properties: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The document; the same for the same content, whatever the order of the components was."""
        references: Dict[str, int] = {}
        components: List[Dict[str, Any]] = []
        for component in sorted(self.components, key=lambda one: (one.purl, one.name, one.version, one.sha256)):
            plain = component.purl or f"{show(component.name)}@{show(component.version)}"
            count = references[plain] = references.get(plain, 0) + 1
            components.append(component.to_json(plain if count == 1 else f"{plain}#{count}"))
        metadata: Dict[str, Any] = {
            "tools": {"components": [self.tool.to_json("tool")]},
            "component": self.subject.to_json("subject"),
            "properties": _properties(self.properties),
        }
        if self.time is not None:
            metadata["timestamp"] = datetime.fromtimestamp(self.time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {
            "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": SPEC_VERSION,
            "version": 1,
            "metadata": metadata,
            "components": components,
            "dependencies": [{"ref": "subject", "dependsOn": [one["bom-ref"] for one in components]}],
        }
        return strictjson.encode({**document, "serialNumber": serial_number(strictjson.encode(document))}, indent=2)


def serial_number(content: bytes) -> str:
    """A name-based UUID (RFC 9562, section 5.5) of a document without its serial number."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:respin:sbom:{sha256_hex(content)}").urn


def _properties(properties: Mapping[str, str]) -> List[Dict[str, str]]:
    return [{"name": name, "value": show(value)} for name, value in sorted(properties.items()) if value]
