"""Running a program that must succeed."""

from __future__ import annotations

import subprocess


def run(*argv: object, stdin: bytes = b"", accept: int = 0) -> bytes:
    """Its output; an exit status above ``accept`` ends the benchmark."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, check=False)
    if done.returncode > accept:
        raise SystemExit(f"{argv[0]}: {done.returncode}\n{done.stderr.decode('utf-8', 'replace')[-2000:]}")
    return done.stdout
