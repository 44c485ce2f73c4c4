"""CycloneDX's own judgement of a bill of materials: its JSON schema, by the validator of cyclonedx-python-lib."""

from __future__ import annotations

import json
from typing import Optional

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def errors(data: bytes) -> Optional[str]:
    """What the schema of version 1.6 has against a document; None if nothing. References must lead somewhere."""
    document = json.loads(data)
    references = [one["bom-ref"] for one in document["components"]]
    named = [name for one in document["dependencies"] for name in one["dependsOn"]]
    if len(set(references)) != len(references) or not set(named) <= set(references):
        return "the references are not unique, or lead nowhere"
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode("utf-8"))
    return None if found is None else str(found)
