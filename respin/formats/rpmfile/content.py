"""From the main header's tags to :class:`RpmHeader`."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Sequence, Tuple, TypeVar

from respin import safepath
from respin.digest import sha256_hex
from respin.errors import MalformedError
from respin.formats.rpmfile import tags
from respin.formats.rpmfile.header import Header
from respin.formats.rpmfile.model import Dependency, FileEntry, PackageInfo, RpmHeader
from respin.formats.rpmfile.scripts import scriptlets
from respin.limits import LIMITS

T = TypeVar("T")
# PGPHASHALGO of rpm, which are OpenPGP's numbers
_ALGORITHMS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
_IDENTIFIER = re.compile(r"[^\s/]+")
_HEX = re.compile(r"[0-9a-f]*")


def package_info(header: Header, *, where: str) -> PackageInfo:
    """What a main header says of the package as a whole; its lists of files, which may be long, are not looked at.

    Raises MalformedError for a name that is not acceptable.
    """
    return PackageInfo(**_info(header, where))


def rpm_header(header: Header, *, where: str) -> RpmHeader:
    """What a main header says. Raises MalformedError when lists disagree or a name or path is not acceptable."""
    info = _info(header, where)
    return RpmHeader(
        **info,
        os=header.string(tags.OS),
        files=_files(header, is_source=info["is_source"], where=where),
        scriptlets=scriptlets(header, where=where),
        requires=_dependencies(header, tags.REQUIRES, where),
        conflicts=_dependencies(header, tags.CONFLICTS, where),
        obsoletes=_dependencies(header, tags.OBSOLETES, where),
        payload_digest=_payload_digest(header, where),
        payload_digest_algorithm=_algorithm(header.integer(tags.PAYLOADDIGESTALGO), "sha256", where),
        format=header.integer(tags.RPMFORMAT) or 4,
        raw=header.raw,
    )


def _info(header: Header, where: str) -> Dict[str, Any]:
    """The fields of a PackageInfo."""
    return {
        "name": _identifier(header, tags.NAME, where),
        "epoch": header.integer(tags.EPOCH),
        "version": _identifier(header, tags.VERSION, where),
        "release": _identifier(header, tags.RELEASE, where),
        "arch": _identifier(header, tags.ARCH, where),
        "summary": header.string(tags.SUMMARY),
        "vendor": header.string(tags.VENDOR),
        "license": header.string(tags.LICENSE),
        "sourcerpm": header.string(tags.SOURCERPM),
        "provides": _dependencies(header, tags.PROVIDES, where),
        "is_source": tags.SOURCERPM not in header,
        "sha256": sha256_hex(header.raw),
    }


def _identifier(header: Header, tag: int, where: str) -> str:
    value = header.string(tag)
    if not _IDENTIFIER.fullmatch(value) or not safepath.printable(value) or len(value) > 255:
        raise MalformedError(f"{safepath.show(value)!r} cannot be a name, version, release or arch", where=where)
    return value


def _payload_digest(header: Header, where: str) -> str:
    digests = header.strings(tags.PAYLOADDIGEST)
    if len(digests) > 1 or not all(_HEX.fullmatch(digest) for digest in digests):
        raise MalformedError("the payload digest is malformed", where=where)
    return digests[0] if digests else ""


def _algorithm(number: Optional[int], default: str, where: str) -> str:
    if number is None:
        return default
    if number not in _ALGORITHMS:
        raise MalformedError(f"digest algorithm {number} is not known", where=where)
    return _ALGORITHMS[number]


def _dependencies(header: Header, wanted: Tuple[int, int, int], where: str) -> Tuple[Dependency, ...]:
    names, flags, versions = header.strings(wanted[0]), header.integers(wanted[1]), header.strings(wanted[2])
    # Very old packages may give names alone
    flags, versions = flags or (0,) * len(names), versions or ("",) * len(names)
    if not len(names) == len(flags) == len(versions):
        raise MalformedError("the lists that describe its dependencies differ in length", where=where)
    return tuple(Dependency(*dependency) for dependency in zip(names, flags, versions))


def _paths(header: Header, *, is_source: bool, where: str) -> List[str]:
    bases, indexes, folders = (
        header.strings(tags.BASENAMES), header.integers(tags.DIRINDEXES), header.strings(tags.DIRNAMES),
    )  # fmt: skip
    paths = list(header.strings(tags.OLDFILENAMES)) if not bases else []
    if bases and tags.OLDFILENAMES in header:
        raise MalformedError("it names its files in two ways", where=where)
    if len(indexes) != len(bases) or len(bases) > LIMITS.rpm_files or len(paths) > LIMITS.rpm_files:
        raise MalformedError("the lists that name its files differ in length or are too long", where=where)
    for base, index in zip(bases, indexes):
        if index >= len(folders) or "/" in base:
            raise MalformedError(f"the file name {safepath.show(base)!r} has no directory", where=where)
        paths.append(folders[index] + base)
    check = safepath.relative if is_source else safepath.absolute
    return [check(path, where=where) for path in paths]


def _files(header: Header, *, is_source: bool, where: str) -> Tuple[FileEntry, ...]:
    paths = _paths(header, is_source=is_source, where=where)
    if len(set(paths)) != len(paths):
        raise MalformedError("a file stands twice in its list", where=where)

    def column(values: Sequence[T], default: T) -> Sequence[T]:
        if values and len(values) != len(paths):
            raise MalformedError("the lists that describe its files differ in length", where=where)
        return values or [default] * len(paths)

    algorithm = _algorithm(header.integer(tags.FILEDIGESTALGO), "md5", where)
    modes = column(header.integers(tags.FILEMODES), 0)
    if paths and not any(modes):
        raise MalformedError("its files have no modes", where=where)
    rows = zip(
        paths,
        modes,
        column(header.strings(tags.FILEUSERNAME), "root"),
        column(header.strings(tags.FILEGROUPNAME), "root"),
        column(header.integers(tags.FILEMTIMES), 0),
        column(header.integers(tags.LONGFILESIZES) or header.integers(tags.FILESIZES), 0),
        column(header.strings(tags.FILEDIGESTS), ""),
        column(header.strings(tags.FILELINKTOS), ""),
        column(header.integers(tags.FILERDEVS), 0),
        column(header.integers(tags.FILEFLAGS), 0),
        column(header.strings(tags.FILECAPS), ""),
        column(header.integers(tags.FILEINODES), 0),
    )
    return tuple(
        FileEntry(
            path=path,
            mode=mode,
            user=user,
            group=group,
            mtime=mtime,
            size=size,
            digest=digest,
            digest_algorithm=algorithm if digest else "",
            linkto=linkto,
            rdev=rdev,
            flags=flags,
            caps=caps,
            inode=inode,
        )
        for path, mode, user, group, mtime, size, digest, linkto, rdev, flags, caps, inode in rows
    )
