"""The cpio archives of an initrd, read as the kernel reads them: one or several "newc" archives, packed or not.

Linux Documentation/driver-api/early-userspace/buffer-format.rst: archives ("070701", "070702") and packed archives one
behind the other, with any number of zero bytes between them. Covered: no packing, gzip, xz, lzma, bzip2, and zstd where
the module zstandard is installed. Nothing is written anywhere; contents are hashed as they pass.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import re
import stat
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from respin import inflate
from respin.byteview import ByteView, chunks
from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS

MAGICS = (b"070701", b"070702")
LARGEST = 0xFFFFFFFF
"""The most bytes that a file in such an archive can have."""

_HEADER = 110
_STEP = 1 << 18
_LONGEST_NAME = 4096
_TRAILER = "TRAILER!!!"
# 13 numbers of eight hex digits: ino, mode, uid, gid, nlink, mtime, filesize, device, rdev, namesize, check.
_NUMBERS = re.compile(rb"[0-9A-Fa-f]{104}")
_FIELDS = tuple(slice(6 + 8 * number, 14 + 8 * number) for number in range(13))


@dataclass(frozen=True)
class Member:
    """A member: ``mode`` is a whole st_mode, ``rdev`` (major, minor), ``target`` a symbolic link's.

    ``sha256`` is that of a regular file's content. All names of a hard-linked file but the last have no content.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    rdev: Tuple[int, int]
    nlink: int
    sha256: Optional[str]
    target: Optional[str]


# What gets the content of the member of a given name, piece by piece; None for members whose content nobody wants.
Contents = Callable[[str], Optional[Callable[[bytes], object]]]


def read(view: ByteView, contents: Contents = lambda name: None) -> Mapping[str, Member]:
    """The members by name; of several with the same name the last, which is the one that the kernel leaves.

    ``contents`` is asked for every regular file, once for each time that its name occurs.
    Raises UnsupportedError for another format or packing, MalformedError for damage and for more than the limits.
    """
    members: Dict[str, Member] = {}
    budget = [LIMITS.initrd]
    source = _Source(chunks(view, step=_STEP), view.name, budget)
    while True:
        start = source.skip_zeros()
        if start == b"":
            break
        if start in MAGICS:
            _archive(source, members, contents)
        else:
            unpacked = _Source(_unpack(source, _packing(start, view.name)), view.name, budget)
            while unpacked.skip_zeros() in MAGICS:
                _archive(unpacked, members, contents)
            if unpacked.skip_zeros():
                raise UnsupportedError("what is packed in it is no cpio archive", where=view.name, finding="initrd")
    if not members:
        raise UnsupportedError("it is no cpio archive", where=view.name, finding="initrd")
    return members


def archive(members: Mapping[str, Optional[bytes]], mtime: int) -> bytes:
    """A "newc" archive of ``members`` in their order: files (root:root, 0644), and directories (0755) for None."""
    pieces: List[bytes] = []
    for number, (name, content) in enumerate(members.items(), 1):
        mode, nlink = (stat.S_IFDIR | 0o755, 2) if content is None else (stat.S_IFREG | 0o644, 1)
        pieces.append(_newc(number, mode, nlink, mtime, name, content or b""))
    pieces.append(_newc(0, 0, 1, 0, _TRAILER, b""))
    return b"".join(pieces)


def around(name: str, size: int, mtime: int) -> Tuple[bytes, bytes]:
    """What stands in front of and behind the content of a file (root:root, 0644) that is an archive's only one.

    Raises UnsupportedError for a file that is too large: its size has eight hex digits.
    """
    if size > LARGEST:
        raise UnsupportedError(
            f"a file in a cpio archive has at most {LARGEST} bytes (4 GiB), this one has {size}",
            where=name,
            finding="too-large",
        )
    trailer = _header(0, 0, 1, 0, _TRAILER, 0)
    return _header(1, stat.S_IFREG | 0o644, 1, mtime, name, size), bytes(-size % 4) + trailer


def _newc(number: int, mode: int, nlink: int, mtime: int, name: str, content: bytes) -> bytes:
    return _header(number, mode, nlink, mtime, name, len(content)) + content + bytes(-len(content) % 4)


def _header(number: int, mode: int, nlink: int, mtime: int, name: str, size: int) -> bytes:
    spelt = name.encode("utf-8", "surrogateescape") + b"\0"
    fields = (number, mode, 0, 0, nlink, mtime, size, 0, 0, 0, 0, len(spelt), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + spelt
    return header + bytes(-len(header) % 4)


class _Source:
    """A stream of bytes that can be looked at ahead; what streams of one initrd give counts against one ``budget``."""

    def __init__(self, pieces: Iterator[bytes], name: str, budget: List[int]) -> None:
        self.name = name
        self.position = 0
        self._budget = budget
        self._pieces = pieces
        self._ahead = b""

    def some(self) -> bytes:
        """The next bytes, as many as there happen to be; none at the end."""
        data, self._ahead = self._ahead, b""
        while not data:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            data = piece
            self._budget[0] -= len(data)
        self.position += len(data)
        if self._budget[0] < 0:
            raise UnsupportedError(f"it has more than {LIMITS.initrd} bytes", where=self.name, finding="initrd")
        return data

    def back(self, data: bytes) -> None:
        """Give back what was taken last."""
        self._ahead = data + self._ahead
        self.position -= len(data)

    def take(self, length: int) -> bytes:
        """Exactly ``length`` bytes."""
        return b"".join(self.pieces(length))

    def pieces(self, length: int) -> Iterator[bytes]:
        """``length`` bytes in pieces."""
        while length:
            data = self.some()
            if not data:
                raise MalformedError("the archive ends in the middle of a member", where=self.name, finding="truncated")
            if len(data) > length:
                self.back(data[length:])
                data = data[:length]
            length -= len(data)
            yield data

    def skip_zeros(self) -> bytes:
        """Skip zero bytes; returns the six bytes behind them without taking them, fewer at the end."""
        while True:
            data = self.some()
            rest = data.lstrip(b"\0")
            if rest or not data:
                break
        while rest and len(rest) < 6:
            more = self.some()
            if not more:
                break
            rest += more
        self.back(rest)
        return rest[:6]


def _archive(source: _Source, members: Dict[str, Member], contents: Contents) -> None:
    """One archive up to its trailer; positions in it count from its start."""
    start = source.position
    while True:
        header = source.take(_HEADER)
        if header[:6] not in MAGICS or not _NUMBERS.fullmatch(header[6:]):
            raise MalformedError("a cpio header is none", where=f"{source.name}, byte {source.position}")
        numbers = [int(header[field], 16) for field in _FIELDS]
        _, mode, uid, gid, nlink, mtime, size, _, _, major, minor, name_size, _ = numbers
        if not 0 < name_size <= _LONGEST_NAME:
            raise MalformedError(
                "the name of a cpio member is too long", where=f"{source.name}, byte {source.position}"
            )
        name = source.take(name_size).split(b"\0")[0].decode("utf-8", "surrogateescape")
        source.take(-(source.position - start) % 4)
        if name == _TRAILER:
            return
        target = source.take(min(size, _LONGEST_NAME)) if stat.S_ISLNK(mode) else b""
        digest = hashlib.sha256()
        write = contents(name) if stat.S_ISREG(mode) else None
        for piece in source.pieces(size - len(target)):
            digest.update(piece)
            if write is not None:
                write(piece)
        source.take(-(source.position - start) % 4)
        if len(members) >= LIMITS.initrd_members:
            raise UnsupportedError("it has more members than the limit", where=source.name, finding="initrd")
        members[name] = Member(
            mode=mode,
            uid=uid,
            gid=gid,
            mtime=mtime,
            size=size,
            rdev=(major, minor),
            nlink=nlink,
            sha256=digest.hexdigest() if stat.S_ISREG(mode) else None,
            target=target.decode("utf-8", "surrogateescape") if stat.S_ISLNK(mode) else None,
        )


_PACKINGS: Tuple[Tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: inflate.decompressobj(wbits=31)),
    (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)),
    (b"\x5d\0\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=1 << 28)),
    (b"BZh", bz2.BZ2Decompressor),
)


def _packing(start: bytes, where: str) -> Any:
    for magic, make in _PACKINGS:
        if start.startswith(magic):
            return make()
    raise UnsupportedError("it is neither a cpio archive nor one packed in a known way", where=where, finding="initrd")


def _unpack(source: _Source, decompressor: Any) -> Iterator[bytes]:
    """What one packed stream holds, in pieces of bounded size; what follows it is given back to ``source``."""
    is_zlib = hasattr(decompressor, "unconsumed_tail")
    try:
        while not decompressor.eof:
            data = source.some()
            if not data:
                raise MalformedError("a packed archive ends too early", where=source.name, finding="truncated")
            yield decompressor.decompress(data, _STEP)
            while not decompressor.eof and (decompressor.unconsumed_tail if is_zlib else not decompressor.needs_input):
                yield decompressor.decompress(decompressor.unconsumed_tail if is_zlib else b"", _STEP)
        source.back(decompressor.unused_data)
    except (*inflate.ERRORS, lzma.LZMAError, OSError, EOFError, MemoryError) as error:
        raise MalformedError(f"a packed archive is damaged: {error}", where=source.name, finding="initrd") from error
