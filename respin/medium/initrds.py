"""Initrds taken apart: what is in them, and on disk what depmod reads of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional

from respin.byteview import ByteView
from respin.digest import sha256_view
from respin.errors import MalformedError
from respin.formats import cpio
from respin.formats.kernelmodule import module_name
from respin.safepath import relative, show

MODULES = re.compile(r"((?:usr/)?lib/modules/([^/]+))/(.+)", re.DOTALL)
"""A file below a kernel's modules: the directory, the kernel's release, the rest of the path."""

FOR_DEPMOD = frozenset({"modules.order", "modules.builtin", "modules.builtin.modinfo"})
"""What depmod reads besides modules; all else by such a name is what it makes."""


@dataclass(frozen=True)
class TakenApart:
    """The members by name; the modules of the kernels, and what else depmod reads, as files below ``directory``."""

    members: Mapping[str, cpio.Member]
    directory: Path


@dataclass(frozen=True)
class Initrds:
    """Takes initrds apart, each content once, known by its SHA-256.

    A build derives what goes behind an initrd twice, to lay it out and to verify it.
    """

    _known: Dict[str, TakenApart] = field(default_factory=dict)

    def take_apart(self, initrd: ByteView, directory: Path) -> TakenApart:
        """What is in ``initrd``, with files below ``directory`` unless they lie elsewhere since an earlier time.

        Nobody may write to these files. Raises what :func:`respin.formats.cpio.read` does, and MalformedError where a
        file is a directory, too.
        """
        digest = sha256_view(initrd)
        if digest not in self._known:
            directory.mkdir(parents=True)
            members = cpio.read(initrd, lambda name: _writer(directory, name, initrd.name))
            self._known[digest] = TakenApart(members, directory)
        return self._known[digest]


def _writer(directory: Path, name: str, where: str) -> Optional[Callable[[bytes], object]]:
    match = MODULES.fullmatch(name)
    if match is None or not (module_name(name) or match[3] in FOR_DEPMOD):
        return None
    path = directory / relative(name, where=where)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise MalformedError(f"{show(name)} is a file and a directory", where=where) from error

    def write(piece: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(piece)

    return write
