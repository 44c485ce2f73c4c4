"""What a statement says of an ext image that was grown: ``respin_grown``, absent when it has the vendor's size."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from respin.root.growth import Growth, describe
from respin.strictjson import Fields

_NAME = "respin_grown"


def encode(growth: Optional[Growth]) -> Mapping[str, Any]:
    """The member for the statement, if there is anything to say."""
    return {} if growth is None else {_NAME: describe(growth)}


def parse(extensions: Fields, *, nested: bool) -> Optional[Growth]:
    """How far the image was grown; MalformedError for a root without an image (not ``nested``) or one that shrank."""
    if not extensions.has(_NAME):
        return None
    fields = extensions.fields(_NAME)
    growth = Growth(fields.integer("old_size"), fields.integer("new_size"))
    fields.done()
    if not nested or growth.new_size <= growth.old_size:
        raise extensions.bad("says that an image was grown that was not")
    return growth
