"""More packages in a Node's RPM database, as many as a vendor's Node has: rpmbuild makes them, rpm records them.

Nothing is installed: what matters for respin's speed is how much there is to read.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Dict, List

from running import run

DATABASE = "var/lib/rpm/rpmdb.sqlite"  # the example Node's
FILES = 100  # of a package, on average


def record(database: Path, work: Path, packages: int) -> None:
    """Record ``packages`` packages with FILES files each on average, a few with many; ``work`` is a new directory."""
    files = _files(packages)
    spec = ["Name: bulk", "Version: 1", "Release: 1", "Summary: bulk", "License: MIT", "BuildArch: noarch"]
    spec += ["%description", "Nothing."]
    for name in files:
        spec += [f"%package -n {name}", f"Summary: The package {name}", f"%description -n {name}", "Words. " * 60]
    spec += ["%install", f"cp -a {work}/tree/. %{{buildroot}}"]
    for name, paths in files.items():
        for path in paths:
            target = work / f"tree{path}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path, "ascii")
        (work / f"{name}.files").write_text("\n".join(paths) + "\n", "ascii")
        spec += [f"%files -n {name} -f {work}/{name}.files"]
    (work / "bulk.spec").write_text("\n".join(spec) + "\n", "ascii")
    macros = {"_topdir": work, "_build_id_links": "none", "__os_install_post": "%{nil}", "_binary_payload": "w0.gzdio"}
    run("rpmbuild", *_defines(macros), "--quiet", "-bb", work / "bulk.spec")
    options = ("-i", "--justdb", "--nodeps", "--noscripts", "--notriggers", "--nosignature", "--nodigest")
    built = sorted((work / "RPMS").rglob("*.rpm"))
    run("rpm", "--dbpath", database.parent, *_defines({"_db_backend": "sqlite"}), *options, *built)
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for left in database.parent.iterdir():
        if left != database:
            left.unlink()
    shutil.rmtree(work)


def _files(packages: int) -> Dict[str, List[str]]:
    """The paths of each package's files; the sizes fall as 1/n, as those of a distribution's packages do."""
    weights = [1 / (number + 3) for number in range(packages)]
    found: Dict[str, List[str]] = {}
    for number, weight in enumerate(weights):
        name = f"bulk{number:04d}"
        count = max(1, round(weight / sum(weights) * packages * FILES))
        found[name] = [f"/usr/share/{name}/part{n // 20}/module_{number * 7919 % 9973}_{n}.py" for n in range(count)]
    return found


def _defines(macros: Dict[str, object]) -> List[str]:
    return [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
