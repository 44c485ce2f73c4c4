"""The usual way, step by step: unpack everything, mount, install, pack everything again. Needs root for the mount."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, Optional, Sequence

import bignode
from measuring import Cost, added, measure


def pipeline(iso: Path, bundles: Sequence[Path], work: Path, root: str, compressor: str) -> Optional[Dict[str, Cost]]:
    """The costs by step and their sum ("total"), or None where a loop mount is not possible but needed."""
    work.mkdir()
    log = work / "log"
    tree, squashfs, mount = work / "tree", work / "squashfs", work / "mount"
    mount.mkdir()
    costs: Dict[str, Cost] = {}
    costs["xorriso extract"] = measure(("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", tree), log=log)
    bignode.run("chmod", "-R", "u+w", tree)
    image = tree / "LiveOS/squashfs.img"
    costs["unsquashfs"] = measure(("unsquashfs", "-q", "-n", "-d", squashfs, image), log=log)
    for bundle in bundles:
        with tarfile.open(bundle) as archive:
            archive.extractall(work / "bundles", [m for m in archive.getmembers() if m.name.endswith(".rpm")])
    rpms = sorted((work / "bundles").rglob("*.rpm"))
    options = ("--dbpath", "/var/lib/rpm", "--nodeps", "--ignoreos", "--nosignature", "--force-debian", "--install")
    if root == "flat":
        costs["rpm -i"] = measure(("rpm", "--root", squashfs, *options, *rpms), log=log)
    else:
        inner = squashfs / "LiveOS/ext3fs.img"
        if subprocess.run(["mount", "-o", "loop", inner, mount], capture_output=True, check=False).returncode:
            shutil.rmtree(work)
            return None
        try:
            costs["rpm -i"] = measure(("rpm", "--root", mount, *options, *rpms), log=log)
        finally:
            costs["umount"] = measure(("umount", mount), log=log)
    image.unlink()
    costs["mksquashfs"] = measure(bignode.squash(squashfs, image, compressor, root), log=log)
    names = ("genisoimage", "isohybrid", "implantisomd5")
    for name, command in zip(names, bignode.master(tree, work / "peer.iso")):
        costs[name] = measure(command, log=log)
    costs["total"] = added(list(costs.values()))
    shutil.rmtree(work)
    return costs
