"""What a build reads and writes, as the kernel is asked for it: two passes over the base, two over the output."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import List

import pytest

from tests.support import rawiso
from tests.support.forge import Forge

CALLS = "read,readv,pread64,preadv,preadv2,write,writev,pwrite64,pwritev,pwritev2,mmap,copy_file_range,sendfile,splice"
_CALL = re.compile(r"(\w+)\((?:NULL, \d+, \w+, \w+, )?\d+<(.+?)>(?:\(deleted\))?, .*?(\d+)?\) += (\d+|0x[0-9a-f]+)$")
MIB = 1 << 20
# Passes read by the MiB; whatever looks for something in the root image takes compressed blocks of 128 KiB at most.
PASS = 512 << 10


@dataclass(frozen=True)
class Call:
    """One system call on a file: where, if it says so (-1: it does not), and how many bytes it gave or took."""

    name: str
    path: str
    offset: int
    length: int


def traced(command: List[str], directory: Path) -> List[Call]:
    """The calls of a program and of everything that it starts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE"))}
    options = ("-ff", "-y", "-qq", "--seccomp-bpf", "-e", "signal=none", "-e", f"trace={CALLS}")
    done = subprocess.run(
        ["strace", *options, "-o", str(directory / "calls"), *command],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for file in directory.glob("calls.*") for line in file.read_text("utf-8", "replace").splitlines()]
    found = [match for match in map(_CALL.match, lines) if match]
    return [Call(match[1], match[2], int(match[3] or -1), int(match[4], 0)) for match in found]


def test_a_build_takes_two_passes_over_the_base_and_one_and_one_over_the_output(
    forge: Forge, good_plugin: Path, tmp_path: Path
) -> None:
    if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "true"], capture_output=True).returncode:
        pytest.skip("strace is missing, or may not trace here")
    output, calls = tmp_path / "out.iso", tmp_path / "calls"
    calls.mkdir()
    command = [str(one) for one in forge.build_arguments(output, good_plugin)]
    found = traced([sys.executable, "-m", "respin", *command], calls)
    base = [call for call in found if call.path == str(forge.iso)]
    assert {call.name for call in base} == {"pread64"}
    whole = [call for call in base if call.length >= PASS]

    def passes(start: int, end: int) -> List[int]:
        """How often each byte of some, a MiB apart, was read."""
        return [sum(0 <= at - call.offset < call.length for call in whole) for at in range(start, end, MIB)]

    root = next(one for one in rawiso.records(forge.iso.read_bytes(), False) if one.path == "/LiveOS/squashfs.img")
    inside = passes(root.extent * 2048, root.extent * 2048 + root.size)
    assert max(inside) == 2
    assert sum(inside) > 1.8 * len(inside)
    # What the installer is on the ISO is hashed file by file, too: the vendor's, and the new.
    assert max(passes(0, forge.iso.stat().st_size)) <= 4
    assert sum(call.length for call in base) < 3 * forge.iso.stat().st_size
    built = output.stat().st_size
    # A file without a name is shown as the number of its inode.
    nameless = Counter(call.path for call in found if f"{tmp_path}/#" in call.path)
    (path, _), *_ = nameless.most_common(1)
    written = sum(call.length for call in found if call.path == path and "write" in call.name)
    read = sum(call.length for call in found if call.path == path and "read" in call.name)
    assert built <= written < 1.02 * built
    assert built <= read < 1.02 * built
