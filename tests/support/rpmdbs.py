"""RPM databases of the kinds that Debian's rpm does not write: ndb byte by byte, bdb by Berkeley DB's own db_load."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import pytest

from respin.formats.rpmdb import ndbindex

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


def write_ndb_index(path: Path, rows: Mapping[int, Sequence[Tuple[bytes, int, int]]], generation: int = 1) -> Path:
    """An ``Index.db`` with the rows (key, record, position) of each tag, hashed as rpm hashes them; 256 places each."""
    areas, blobs = b"", b""
    for tag, wanted in rows.items():
        table, overflow, keys = [0, 0] * 256, [0] * 256, bytearray(b"\0")
        known: Dict[bytes, int] = {}
        for key, number, position in wanted:
            value = ndbindex.hash_of(key)
            if key not in known:
                known[key] = len(keys) | value & 0xFFFF0000
                keys += (bytes((len(key),)) if 0 < len(key) < 255 else b"\xff" + struct.pack("<H", len(key))) + key
            place, step = value & 255, 7
            while table[2 * place]:
                place, step = place + step & 255, step + 1
            small = number < 1 << 20 and position < 1 << 10
            table[2 * place : 2 * place + 2] = [known[key], number | position << 20 if small else position | 1 << 31]
            overflow[place] = 0 if small else number
        header = struct.pack("<4s8I28x", b"RpmI", 0, 1, 256, len(wanted), 0, 0xFFFF0000, len(keys), 0)
        blob = header + struct.pack("<768I", *table, *overflow) + keys
        blob += bytes(-len(blob) % _PAGE)
        areas += struct.pack("<3sBIII", b"Slo", 0, tag, (_PAGE + len(blobs)) // _PAGE, len(blob) // _PAGE)
        blobs += blob
    front = struct.pack("<4sIIIII8x", b"RpmX", 0, 1, 1, _PAGE, generation) + areas
    free = struct.pack("<3sBIII", b"Slo", 0, 0, 0, 0)
    path.write_bytes(front + free * ((_PAGE - len(front)) // len(free)) + blobs)
    return path


def write_tree(path: Path, entries: Mapping[bytes, bytes]) -> Path:
    """A Berkeley DB B-tree."""
    program = shutil.which("db5.3_load") or shutil.which("db_load")
    if program is None:
        pytest.skip("needs Berkeley DB's db_load")
    lines = ["VERSION=3", "format=bytevalue", "type=btree", "db_pagesize=4096", "HEADER=END"]
    for key, value in entries.items():
        lines += [f" {key.hex()}", f" {value.hex()}"]
    text = "\n".join([*lines, "DATA=END", ""])
    subprocess.run([program, str(path)], input=text.encode(), check=True, capture_output=True)
    return path
