"""A build by an ordinary user, who may not read what root keeps to itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.forge import Forge
from tests.support.roots import unprivileged

CHECKOUT = Path(__file__).parents[2]
UID = 64322


def built_by_an_ordinary_user(forge: Forge, plugin: Path, place: Path, *, fuse: bool = True) -> Path:
    """An unsigned build below ``place``, which others can reach; alone with its sidecars in its directory.

    Without ``fuse`` the user may not open /dev/fuse.
    """
    output = place / "theirs" / "theirs.iso"
    output.parent.mkdir()
    os.chown(output.parent, UID, UID)
    inputs = place / "inputs"
    shutil.copytree(forge.keys.trust, inputs / "trust")
    for file in (forge.iso, forge.checksum, plugin):
        shutil.copy(file, inputs)
    subprocess.run(["chmod", "-R", "a+rX", inputs], check=True)
    command = [sys.executable, "-m", "respin", "build", "--unsigned", "--base", str(inputs / forge.iso.name)]
    command += ["--base-checksum", str(inputs / forge.checksum.name), "--plugin", str(inputs / plugin.name)]
    command += ["--trust", str(inputs / "trust"), "-o", str(output), "--tmpdir", str(output.parent)]
    user = unprivileged(command, uid=UID, directory=place / "namespace", fuse=fuse)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "HOME": "/"}
    run = subprocess.run(user, capture_output=True, text=True, cwd="/", env=environment)
    assert run.returncode == 0, run.stderr
    return output
