"""erofs images made by mkfs.erofs, of any version: what this machine's cannot do skips the test that asks for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

UUID = "6c1d9ea3-2d05-4c0f-9ac1-7e5a7ba4e6d1"
_CANNOT = (b"nvalid argument", b"unrecognized", b"invalid option", b"nrecognized compressor", b"annot find compressor")


def build_erofs(image: Path, source: Path, *options: str) -> Path:
    """An erofs of the directory ``source`` as it is, by mkfs.erofs with further ``options``."""
    image.unlink(missing_ok=True)
    argv = ["mkfs.erofs", "--quiet", "-U", UUID, *options, str(image), str(source)]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode and any(word in done.stdout + done.stderr for word in _CANNOT):
        pytest.skip(f"this mkfs.erofs cannot: {' '.join(options)}")
    assert done.returncode == 0, f"{argv}: {done.stdout.decode()}{done.stderr.decode()}"
    return image
