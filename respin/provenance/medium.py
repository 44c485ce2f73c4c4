"""What the statement says of the medium besides the root image: what was asked for, and what changed for it.

``externalParameters.medium`` holds the request, ``respin_medium`` the places that changed and the files of the ISO's
tree among them. Both are absent when there is nothing to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from respin.formats.bootconfig import ArgumentEdit
from respin.medium.derive import NO_REQUEST, MediumRequest
from respin.medium.edit import Edited
from respin.strictjson import Fields

_MAX_ARGUMENTS, _MAX_PLACES, _MAX_FILES = 256, 10_000, 10_000


@dataclass(frozen=True)
class MediumRecord:
    """``files`` are paths of the ISO's tree, sorted; they are left out of the digests of the protected sets."""

    request: MediumRequest
    edited: Tuple[Edited, ...]
    files: Tuple[str, ...]

    def external(self) -> Dict[str, Any]:
        """The external parameters to add."""
        if self.request == NO_REQUEST:
            return {}
        arguments = self.request.arguments
        return {
            "medium": {
                "append_arguments": list(arguments.append),
                "remove_arguments": list(arguments.remove),
                "revision": self.request.revision,
            }
        }

    def extension(self) -> Dict[str, Any]:
        """The extension fields to add."""
        if not self.edited:
            return {}
        return {"respin_medium": {"edited": [one.to_json() for one in self.edited], "files": list(self.files)}}


def parse_medium(external: Mapping[str, Any], extensions: Fields, where: str) -> MediumRecord:
    """The reverse; MalformedError for anything that :class:`MediumRecord` does not write."""
    request = NO_REQUEST
    if "medium" in external:
        outer = Fields(external, where=where, place="externalParameters", finding="bad-statement")
        fields = outer.fields("medium")
        request = MediumRequest(
            ArgumentEdit(
                fields.texts("append_arguments", limit=_MAX_ARGUMENTS, ordered=True),
                fields.texts("remove_arguments", limit=_MAX_ARGUMENTS, ordered=True),
            ),
            fields.integer("revision"),
        )
        fields.done()
    if not extensions.has("respin_medium"):
        return MediumRecord(request, (), ())
    fields = extensions.fields("respin_medium")
    edited = []
    for one in fields.objects("edited", limit=_MAX_PLACES):
        edited.append(Edited(one.text("place"), one.text("why"), one.text("detail") if one.has("detail") else ""))
        one.done()
    files = fields.texts("files", limit=_MAX_FILES)
    if not edited:
        raise fields.bad("leaves files out of the protected sets and names no change", "edited")
    fields.done()
    return MediumRecord(request, tuple(edited), files)
