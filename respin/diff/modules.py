"""Kernel modules among the files that differ, by kernel release."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional

from respin.diff.model import Difference, Facts, Section
from respin.node.places import MODULES

_MODULE = re.compile(rf"(?:{'|'.join(MODULES)})/([^/]+)/(?:.*/)?[^/]+\.ko(?:\.(?:gz|xz|zst|bz2|lzma))?", re.DOTALL)


def pick_modules(files: Section) -> Section:
    """The kernel modules of a section of files; each fact ``kernel`` is the release whose module it is."""
    found = []
    for one in files.differences:
        match = _MODULE.fullmatch(one.name)
        if match is not None and "file" in (_kind(one.old), _kind(one.new)):
            found.append(Difference(one.name, _of(one.old, match[1]), _of(one.new, match[1])))
    return Section("modules", tuple(found), files.not_compared)


def _kind(facts: Optional[Facts]) -> Optional[str]:
    return None if facts is None else facts["kind"]


def _of(facts: Optional[Facts], kernel: str) -> Optional[Dict[str, Any]]:
    return None if facts is None else {"kernel": kernel, **facts}
