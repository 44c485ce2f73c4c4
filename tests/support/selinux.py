"""libselinux as an oracle for labels, the file contexts of Debian's reference policy, and Nodes with a small policy."""

from __future__ import annotations

import bz2
import ctypes
import ctypes.util
import errno
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable, Dict, List, Mapping, Optional, Type

import pytest

from respin.byteview import FileView
from respin.formats.ext import ExtImage
from tests.support.images import debugfs

_CTX_FILE, _OPT_PATH = 0, 3  # selinux/label.h
_PACKAGE, _CONTEXTS = 0xF97CFF8F, 0xF97CFF90  # sepol/policydb/module.h


class _Option(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("value", ctypes.c_char_p)]


class Oracle:
    """selabel_lookup_raw(3) on a file of file contexts; substitutions beside it count (``.subs``, ``.subs_dist``)."""

    def __init__(self, path: Path) -> None:
        name = ctypes.util.find_library("selinux")
        if name is None:
            pytest.skip("libselinux is not installed")
        self._library = ctypes.CDLL(name, use_errno=True)
        self._library.selabel_open.restype = ctypes.c_void_p
        self._library.selabel_open.argtypes = [ctypes.c_uint, ctypes.POINTER(_Option), ctypes.c_uint]
        self._library.selabel_lookup_raw.argtypes = [
            *(ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_char_p, ctypes.c_int)
        ]
        self._library.selabel_close.argtypes = [ctypes.c_void_p]
        option = _Option(_OPT_PATH, str(path).encode())
        self._handle = self._library.selabel_open(_CTX_FILE, ctypes.byref(option), 1)
        if not self._handle:
            raise OSError(ctypes.get_errno(), "selabel_open", str(path))

    def label(self, path: bytes, mode: int) -> Optional[bytes]:
        """The label, or None if there is none for the path. OSError for anything else, such as a bad pattern."""
        found = ctypes.c_char_p()
        if self._library.selabel_lookup_raw(self._handle, ctypes.byref(found), path, mode) == 0:
            return found.value
        if ctypes.get_errno() == errno.ENOENT:
            return None
        raise OSError(ctypes.get_errno(), "selabel_lookup_raw", path)

    def __enter__(self) -> "Oracle":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._library.selabel_close(self._handle)


def reference_policy(directory: Path) -> Path:
    """``file_contexts`` and ``.subs_dist`` of Debian's selinux-policy-default, put together from its modules."""
    directory.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "selinux-policy-default"]
    try:
        done = subprocess.run(fetch, cwd=directory, capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"apt-get: {error}")
    packages = list(directory.glob("selinux-policy-default_*.deb"))
    if done.returncode or not packages:
        pytest.skip(f"apt cannot fetch selinux-policy-default: {done.stderr.decode().strip()[-200:]}")
    subprocess.run(["dpkg-deb", "-x", packages[0], directory / "unpacked"], check=True)
    lines: List[bytes] = []
    for module in sorted((directory / "unpacked/usr/share/selinux/default").glob("*.pp.bz2")):
        lines += [line for line in _contexts_of(bz2.decompress(module.read_bytes())) if b"HOME_" not in line]
    # As libsemanage sorts: what begins with more literal characters comes later.
    lines.sort(key=lambda line: min(len(line.split()[0].split(mark)[0]) for mark in (b"(", b".", b"[", b"*", b"\\")))
    contexts = directory / "file_contexts"
    contexts.write_bytes(b"".join(line + b"\n" for line in lines))
    subs = directory / "unpacked/etc/selinux/default/contexts/files/file_contexts.subs_dist"
    (directory / "file_contexts.subs_dist").write_bytes(subs.read_bytes())
    return contexts


def _contexts_of(package: bytes) -> List[bytes]:
    """The file contexts in a policy package."""
    magic, _version, count = struct.unpack_from("<III", package)
    assert magic == _PACKAGE
    starts = [*struct.unpack_from(f"<{count}I", package, 12), len(package)]
    text = b"".join(
        package[start + 4 : end]
        for start, end in zip(starts, starts[1:])
        if package[start : start + 4] == struct.pack("<I", _CONTEXTS)
    )
    return [line for line in text.splitlines() if line.strip() and not line.startswith(b"#")]


NAME = "security.selinux"


@dataclass(frozen=True)
class Policy:
    """A policy of a Node: the texts by their path in the root, and libselinux's answers from the same texts."""

    files: Mapping[str, bytes]
    oracle: Oracle

    def label(self, path: str, mode: int) -> Optional[bytes]:
        """What the file at ``path`` must have as its attribute; ``mode`` with the type."""
        context = self.oracle.label(os.fsencode(path), mode)
        return None if context is None else context + b"\0"


def small_policy(directory: Path, kind: str, texts: Mapping[str, bytes]) -> Policy:
    """A policy of the type ``kind``; ``texts`` by the end of the file's name, "" for file_contexts itself."""
    directory.mkdir(parents=True, exist_ok=True)
    for end, text in texts.items():
        (directory / f"file_contexts{end}").write_bytes(text)
    start = f"/etc/selinux/{kind}/contexts/files/file_contexts"
    files = {
        "/etc/selinux/config": f"# a comment\nSELINUX=enforcing\nSELINUXTYPE={kind}\n".encode(),
        **{start + end: text for end, text in texts.items()},
    }
    return Policy(files, Oracle(directory / "file_contexts"))


def with_files(files: Mapping[str, bytes], scratch: Path) -> Callable[[Path], None]:
    """What puts ``files`` into an ext image that has none of the directories below the first."""
    scratch.mkdir(parents=True, exist_ok=True)

    def change(image: Path) -> None:
        made, commands = {"/", "/etc"}, []
        for number, (path, content) in enumerate(sorted(files.items())):
            (scratch / str(number)).write_bytes(content)
            parents = [str(parent) for parent in reversed(Path(path).parents)]
            commands += [f"mkdir {parent}" for parent in parents if parent not in made]
            made |= set(parents)
            commands += [f"cd {parents[-1]}", f"write {scratch / str(number)} {Path(path).name}", "cd /"]
        debugfs(image, *commands)

    return change


def with_labels(
    label: Callable[[str, int], Optional[bytes]], special: Mapping[str, bytes], scratch: Path
) -> Callable[[Path], None]:
    """What labels everything in an ext image: as ``special`` says by path, else as ``label`` does."""
    scratch.mkdir(parents=True, exist_ok=True)

    def change(image: Path) -> None:
        values: Dict[bytes, Path] = {}
        done, commands = set(), []
        with image.open("rb") as file:
            for path, inode in ExtImage.open(FileView(file.fileno(), str(image))).walk():
                value = special.get(path, label(path, inode.mode))
                if value is None or inode.number in done:
                    continue
                done.add(inode.number)
                if value not in values:
                    values[value] = scratch / f"label{len(values)}"
                    values[value].write_bytes(value)
                commands.append(f'ea_set -f {values[value]} "{path}" {NAME}')
        debugfs(image, *commands)

    return change
