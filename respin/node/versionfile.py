"""A classic Node's version file (``/isolinux/version``, ``/etc/default/version``): shell assignments, data only."""

from __future__ import annotations

import re
from typing import Dict, Mapping

from respin.errors import MalformedError
from respin.safepath import printable

_ASSIGNMENT = re.compile(r"""([A-Z][A-Z0-9_]{0,63})=(?:"([^"$`\\]*)"|'([^']*)'|([^\s"'$`\\;&|<>()]*))""")


def parse(data: bytes, where: str) -> Mapping[str, str]:
    """The assignments of the file, e.g. ``{"PRODUCT": "oVirt Node Hypervisor", "VERSION": "3.6"}``.

    Anything but assignments, comments and blank lines is a MalformedError: the file is sourced by shells on the Node,
    and what we show must be what they see.
    """
    found: Dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(text)
        if match is None or not printable(text):
            raise MalformedError("this line is not a plain assignment", where=f"{where}, line {number}")
        found[match[1]] = next(value for value in match.groups()[1:] if value is not None)
    return found
