"""A signed plugin of any size, for measuring: one RPM with one file, half of it noise and half of it text."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Dict

from bignode import MiB, run, text

SPEC = """\
Name: payload
Version: 1
Release: 1
Summary: Payload
License: Apache-2.0
Vendor: Example IHV
BuildArch: noarch

%description
Something of a certain size.

%install
mkdir -p %{buildroot}/opt
cp "%{payload}" %{buildroot}/opt/payload

%files
/opt/payload
"""

BUNDLE = """\
name = "payload"
version = "1"
release = "1"
arch = "noarch"
vendor = "Example IHV"
summary = "Payload"
license = "Apache-2.0"
rpms = ["rpms/payload-*.rpm"]

[target]
profiles = ["example-node"]
versions = { at_least = "1.0", below = "2.0" }

[effects]
"""


def make(checkout: Path, world: Path, work: Path, keys: Dict[str, str], size: int) -> Path:
    """A bundle whose one file has ``size`` bytes."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "rpms").mkdir(parents=True)
    half = MiB // 2
    words = text(2, half).encode("ascii")
    rng = random.Random(size)
    with (work / "payload").open("wb") as stream:
        for _ in range(size // MiB):
            stream.write(rng.randbytes(half) + words)
    (work / "payload.spec").write_text(SPEC, "ascii")
    (work / "bundle.toml").write_text(BUNDLE, "ascii")
    home = world / "gnupg"
    sign = ("--gnupg-home", home, "--key", keys["rpm"])
    run(checkout / "examples/build-rpm", work / "payload.spec", work / "rpms", *sign, f"payload={work / 'payload'}")
    respin = checkout / ".venv/bin/respin"
    run(respin, "bundle", "create", work / "bundle.toml", "-o", work)
    (bundle,) = work.glob("*.plugin.tar")
    run(respin, "bundle", "sign", bundle, "--key", keys["plugin"], "--gnupg-home", home)
    run("gpgconf", "--homedir", home, "--kill", "all")
    return bundle
