"""Collecting public keys from files and directories, as distributions ship them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable, Iterator, List, Tuple

from respin.byteview import open_stream
from respin.errors import RespinError, UsageError
from respin.formats.openpgp import fingerprints
from respin.limits import LIMITS


def collect(paths: Iterable[Path]) -> Tuple[List[bytes], List[str]]:
    """The key files among ``paths``, and a note on each file of a directory that holds no usable key.

    Directories are searched recursively. A path that names a file must be a key file: errors as
    :func:`respin.formats.openpgp.read_keys`. UsageError when there is no key at all.
    """
    found: List[bytes] = []
    notes: List[str] = []
    named = list(paths)
    for path in named:
        if not path.is_dir():
            data = read_key_file(path)
            fingerprints(data, where=str(path))
            found.append(data)
            continue
        for file in _files(path):
            try:
                data = read_key_file(file)
                fingerprints(data, where=str(file))
            except RespinError as error:
                notes.append(f"skipped {error}")
            else:
                found.append(data)
    if not found:
        raise UsageError(
            "there is no public key", where=", ".join(map(str, named)), remedy="name key files with --keys"
        )
    return found, notes


def _files(directory: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            if (Path(parent) / name).is_file():
                yield Path(parent) / name


def read_key_file(file: Path) -> bytes:
    """The content of a key file, whatever it is; UsageError when it can't be read or is too large for one."""
    try:
        with open_stream(file) as stream:
            data = stream.read(LIMITS.key_file + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read it: {error.strerror}", where=str(file), remedy="name a file with a public key"
        ) from error
    if len(data) > LIMITS.key_file:
        raise UsageError(f"it is larger than {LIMITS.key_file} bytes and no key file", where=str(file))
    return data
