"""RPM package files, format version 4 (and the headers of version 6): read, bounds-checked, never executed or unpacked.

Follows the "RPM V4 Package format" and "RPM header format" pages of rpm's documentation: lead, signature header, main
header, payload. Headers without an immutable region (rpm 3 and older) are unsupported. The payload is only located;
what is in it is known from the signed header.

- ``tags``: tag numbers
- ``header``: the header structure, tag by tag
- ``model``: what the main header says, as frozen values
- ``content``: main header to ``RpmHeader``
- ``scripts``: scriptlets and triggers
- ``package``: the file as a whole
"""

from __future__ import annotations

from respin.formats.rpmfile.header import Header
from respin.formats.rpmfile.model import Dependency, FileEntry, PackageInfo, RpmHeader, Scriptlet
from respin.formats.rpmfile.package import PackageSignature, RpmFile

__all__ = ["Dependency", "FileEntry", "Header", "PackageInfo", "PackageSignature", "RpmFile", "RpmHeader", "Scriptlet"]
