"""Files out of the payload of a verified package, without installing it.

libarchive unpacks; what comes out counts only if it has the digest that the package's signed header names.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Collection, Dict, List

from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS
from respin.trust import VerifiedRpm

_BLOCK = 1 << 16


def read_files(rpm: VerifiedRpm, wanted: Collection[str]) -> Dict[str, bytes]:
    """The contents of the regular files ``wanted`` (paths as in the header) of a package, each of at most the size
    that a kernel module may have.

    Raises MalformedError when one is not as the header says, UnsupportedError for a payload that cannot be read here.
    """
    import libarchive  # runs ldconfig to find the library: only those who read an archive wait for it

    entries = {entry.path: entry for entry in rpm.header.files if entry.path in wanted and entry.digest}
    found: Dict[str, bytes] = {}
    where = rpm.header.nevra
    os.lseek(rpm.fd, 0, os.SEEK_SET)
    try:
        with libarchive.fd_reader(rpm.fd, "cpio", "all", _BLOCK) as archive:
            for member in archive:
                path = _absolute(str(member.pathname))
                entry = entries.get(path)
                # Of hard links only the last one carries the content.
                if entry is not None and member.size:
                    if entry.size > LIMITS.kernel_module:
                        raise UnsupportedError(f"{path} has {entry.size} bytes, more than the limit", where=where)
                    found[path] = _content(member, entry.size)
    except libarchive.ArchiveError as error:
        raise UnsupportedError(
            f"the payload cannot be read: {error}", where=where, remedy="build the package in the RPM format 4"
        ) from error
    by_inode = {(entry.inode, entry.digest): entry.path for entry in entries.values() if entry.path in found}
    for path, entry in entries.items():
        content = found.get(path, found.get(by_inode.get((entry.inode, entry.digest), ""), b""))
        if hashlib.new(entry.digest_algorithm, content).hexdigest() != entry.digest:
            raise MalformedError("its content is not what the package's header says", where=f"{where}:{path}")
        found[path] = content
    return found


def _absolute(name: str) -> str:
    """./usr/x and usr/x as /usr/x."""
    return name[1:] if name.startswith("./") else f"/{name.lstrip('/')}"


def _content(member: Any, size: int) -> bytes:
    pieces: List[bytes] = []
    for piece in member.get_blocks():
        pieces.append(bytes(piece))
        size -= len(piece)
        if size < 0:
            break
    return b"".join(pieces)
