"""The canonical packing of a bundle: POSIX ustar (IEEE Std 1003.1-2001, pax, "ustar Interchange Format"), one way only.

Regular files in a fixed order, every header a function of name and size, contents padded with zeros to 512 bytes, two
zero blocks at the end and nothing behind them. Equal members therefore give equal bytes on every machine, and a bundle
that differs from the packing of its own members hides something. Python's tarfile is not used for writing: the device
fields of its ustar headers differ between Python versions.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator, Sequence, Tuple

from respin.bundle.members import Member
from respin.byteview import ByteView, chunks
from respin.errors import MalformedError
from respin.limits import LIMITS
from respin.safepath import show

BLOCK = 512
MAX_NAME = 100  # of the header's name field; the prefix field stays empty

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.asc"
LICENSE = "LICENSE"
README = "README"
RPMS = "rpms/"

_TOP = (MANIFEST, SIGNATURE, LICENSE, README)
_RPM = re.compile(r"rpms/[A-Za-z0-9_][A-Za-z0-9._+~^-]*\.rpm")


def check_name(name: str, *, where: str) -> str:
    """``name`` if a bundle may have a member of that name; raises MalformedError."""
    if name in _TOP or (_RPM.fullmatch(name) and len(name) <= MAX_NAME):
        return name
    raise MalformedError(
        f"a bundle cannot have a member {show(name)[:120]!r}",
        where=where,
        remedy=f"members are {', '.join(_TOP)} and rpms/NAME.rpm, with names of at most {MAX_NAME} characters",
        finding="bad-member",
    )


def size_limit(name: str) -> int:
    """How many bytes the member ``name`` may have."""
    return {MANIFEST: LIMITS.manifest, SIGNATURE: LIMITS.signature}.get(
        name, LIMITS.rpm if name.startswith(RPMS) else LIMITS.small_file
    )


def check_size(name: str, size: int, *, where: str) -> int:
    """``size`` if the member ``name`` may be that large; raises MalformedError. Called before anything is allocated."""
    if not 0 <= size <= size_limit(name):
        raise MalformedError(
            f"{show(name)[:120]} is said to have {size} bytes, the limit is {size_limit(name)}",
            where=where,
            finding="too-large",
        )
    return size


def order(name: str) -> Tuple[int, str]:
    """The sort key of the members: manifest, signature, LICENSE, README, then the RPMs by name (bytewise)."""
    return (_TOP.index(name), "") if name in _TOP else (len(_TOP), name)


def header(name: str, size: int) -> bytes:
    """The 512-byte ustar header of a member: mode 0644, owner 0:0 without names, time 0, a regular file."""
    fields = (
        name.encode("ascii").ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        b"%011o\0" % size,
        b"00000000000\0",  # mtime
        b"        ",  # checksum, counted as spaces
        b"0",  # typeflag: regular file
        bytes(100),  # linkname
        b"ustar\0" + b"00",  # magic, version
        bytes(32),  # uname
        bytes(32),  # gname
        b"0000000\0",  # devmajor
        b"0000000\0",  # devminor
        bytes(155),  # prefix
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> int:
    """How many zeros follow ``size`` bytes of content."""
    return -size % BLOCK


def packed_size(sizes: Iterable[int]) -> int:
    """The length in bytes of a bundle whose members have these ``sizes``."""
    return sum(BLOCK + size + padding(size) for size in sizes) + 2 * BLOCK


def pieces(members: Sequence[Member]) -> Iterator[bytes]:
    """The bytes of the bundle with these ``members``, piece by piece."""
    for member in sorted(members, key=lambda member: order(member.name)):
        yield header(member.name, member.size)
        yield from chunks(member.view)
        yield bytes(padding(member.size))
    yield bytes(2 * BLOCK)


def compare(members: Sequence[Member], file: ByteView) -> Iterator[bytes]:
    """The bytes of ``file`` while they are what :func:`pieces` says; raises MalformedError where they differ."""
    size = packed_size(member.size for member in members)
    offset = 0
    for piece in pieces(members):
        if offset + len(piece) > file.size or file.read(offset, len(piece)) != piece:
            raise _not_canonical(f"it differs between bytes {offset} and {offset + len(piece)}", file)
        offset += len(piece)
        yield piece
    if file.size != size:
        raise _not_canonical(f"{file.size - size} bytes follow its end", file)


def _not_canonical(detail: str, file: ByteView) -> MalformedError:
    return MalformedError(
        f"the bundle is not the canonical packing of its members: {detail}",
        where=file.name,
        remedy="it was changed or packed with another program; get it again, or pack it with `respin bundle create`",
        finding="not-canonical",
    )
