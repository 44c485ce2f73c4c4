"""Kernel modules for tests, really compiled against the headers of a kernel, and changed in one place."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROVIDER = """
#include <linux/module.h>
#include <linux/pci.h>
void testbase_hello(void) { pr_info("hello\\n"); }
EXPORT_SYMBOL_GPL(testbase_hello);
static const struct pci_device_id ids[] = { { PCI_DEVICE(0xdead, 0xbeef) }, { } };
MODULE_DEVICE_TABLE(pci, ids);
MODULE_LICENSE("GPL");
"""
_USER = """
#include <linux/module.h>
extern void testbase_hello(void);
static int __init start(void) { testbase_hello(); return 0; }
module_init(start);
MODULE_LICENSE("GPL");
"""
_FIRMWARE = """
#include <linux/module.h>
static int __init start(void) { pr_info("hello\\n"); return 0; }
module_init(start);
MODULE_FIRMWARE("test/one.bin");
MODULE_LICENSE("GPL");
"""


@dataclass(frozen=True)
class Modules:
    """``base`` exports testbase_hello and takes the PCI device dead:beef, ``user`` needs it, ``firmware`` names
    test/one.bin."""

    release: str
    headers: Path
    base: bytes
    user: bytes
    firmware: bytes


def compile_modules(release: str, work: Path) -> Modules:
    """Compile all three in the empty directory ``work``."""
    headers = Path(f"/usr/src/linux-headers-{release}")
    sources = {"testbase": _PROVIDER, "testuser": _USER, "testfirmware": _FIRMWARE}
    for name, text in sources.items():
        (work / f"{name}.c").write_text(text)
    (work / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in sources))
    command = ["make", "--silent", "-C", str(headers), f"M={work}", "CC=gcc-12", "modules"]
    env = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    content = {name: (work / f"{name}.ko").read_bytes() for name in sources}
    return Modules(release, headers, content["testbase"], content["testuser"], content["testfirmware"])


def for_release(module: bytes, release: str, other: str) -> bytes:
    """The module, with a version magic for the release ``other``, which is as long."""
    assert len(release) == len(other)
    old, new = f"vermagic={release} ".encode(), f"vermagic={other} ".encode()
    assert module.count(old) == 1
    return module.replace(old, new)


def with_other_crc(module: bytes, symbol: str) -> bytes:
    """The module, built against another version of ``symbol``: one bit of the CRC in its ``__versions`` differs."""
    record = symbol.encode().ljust(56, b"\0")
    at = module.index(record) - 8
    (crc,) = struct.unpack_from("<Q", module, at)
    return module[:at] + struct.pack("<Q", crc ^ 1) + module[at + 8 :]
