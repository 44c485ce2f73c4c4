"""RPM databases of the kinds that Debian's rpm does not write: ndb byte by byte, bdb by Berkeley DB's own db_load."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Mapping, Tuple

import pytest

_UNIT, _PAGE = 16, 4096
MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
MAIN_FILES = {"ndb": "Packages.db", "bdb": "Packages"}


def write_ndb(path: Path, headers: Mapping[int, bytes]) -> Path:
    """A ``Packages.db`` with the headers by number: a page of slots, then the blobs one behind the other."""
    slots, blobs = b"", b""
    for number, header in headers.items():
        start = (_PAGE + len(blobs)) // _UNIT
        blob = struct.pack("<4sIII", b"BlbS", number, 1, len(header)) + header
        blob += bytes(-(len(blob) + 12) % _UNIT)
        blob += struct.pack("<II4s", zlib.adler32(blob), len(header), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", number, start, len(blob) // _UNIT)
        blobs += blob
    count = len(headers) + 1
    front = struct.pack("<4sIIII12x", b"RpmP", 0, count, 1, max(headers, default=0) + 1) + slots
    empty = struct.pack("<4sIII", b"Slot", 0, 0, 0) * ((_PAGE - len(front)) // _UNIT)
    path.write_bytes(front + empty + blobs)
    return path


def write_bdb(path: Path, headers: Mapping[int, bytes], order: str = "<") -> Path:
    """A ``Packages`` hash with the headers by number and, as rpm has it, the count of them as number 0."""
    program = shutil.which("db5.3_load") or shutil.which("db_load")
    if program is None:
        pytest.skip("needs Berkeley DB's db_load")
    records = {0: struct.pack(f"{order}I", len(headers)), **headers}
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096"]
    lines += ["db_lorder=" + ("1234" if order == "<" else "4321"), "HEADER=END"]
    lines += [
        f" {part.hex()}" for number, header in records.items() for part in (struct.pack(f"{order}I", number), header)
    ]
    path.unlink(missing_ok=True)
    text = "\n".join([*lines, "DATA=END", ""])
    subprocess.run([program, str(path)], input=text.encode(), check=True, capture_output=True)
    return path


def recorder(kind: str) -> Path:
    """An ``rpmdb`` that writes databases of a kind: named by RESPIN_RPMDB (colons between), or the host's."""
    for program in (*filter(None, os.environ.get("RESPIN_RPMDB", "").split(":")), "rpmdb"):
        with tempfile.TemporaryDirectory() as empty:
            subprocess.run(recording(Path(program), kind, Path(empty), "--initdb"), capture_output=True, check=False)
            if (Path(empty) / MAIN_FILES[kind]).exists():
                return Path(shutil.which(program) or program)
    pytest.skip(f"needs an rpm that writes databases of the kind {kind}; RESPIN_RPMDB may name its rpmdb")


def recording(program: Path, kind: str, database: Path, action: str) -> Tuple[str, ...]:
    """The command line for ``program`` to do ``action`` with a database."""
    return (str(program), "--define", f"_db_backend {kind}", "--dbpath", str(database), action)


def convert(program: Path, kind: str, database: Path, headers: Mapping[int, bytes]) -> None:
    """Make a database of a kind with the headers by that rpm itself, and close it."""
    data = b"".join(MAGIC + header for _, header in sorted(headers.items()))
    subprocess.run(recording(program, kind, database, "--importdb"), input=data, check=True, capture_output=True)
    for name in ("__db.001", "__db.002", "__db.003", ".dbenv.lock", ".rpm.lock"):
        (database / name).unlink(missing_ok=True)
