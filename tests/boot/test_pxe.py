"""The respun example Node starts from a network: QEMU's own firmware asks QEMU's own DHCP server, and what `respin pxe`
wrote does the rest.

iPXE fetches everything by http from a server of this test, GRUB and PXELINUX from QEMU's TFTP server.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.forge import respin
from tests.support.qemu import LOGS, Machine, booted, qemu
from tests.support.quickstart import Quickstart

TIMEOUT = 1500.0
HOST = "10.0.2.2"  # what QEMU's user network calls this machine
PXELINUX = Path("/usr/lib/PXELINUX/pxelinux.0")
LDLINUX = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")


class Server:
    """Serves a directory by http to this machine alone; ``asked`` are the paths that were asked for."""

    def __init__(self, directory: Path) -> None:
        self.asked: List[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                asked.append(self.path)

        handler = functools.partial(Handler, directory=str(directory))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def node(quickstart: Quickstart, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pxe") / "node"
    done = respin("pxe", quickstart.respun, "-o", output, "--trust", quickstart.trust)
    assert done.code == 0, done.err
    return output


@pytest.fixture
def server(node: Path) -> Iterator[Server]:
    one = Server(node)
    yield one
    one.close()


def comes_up(network: str, iso: Path, log: str, *, uefi: bool = False) -> None:
    """Boot a machine that has nothing but a network, until the Node in ``iso`` says that it is up and well.

    It is emulated everywhere: firmware and boot loaders go to and fro between real and protected mode, which KVM inside
    of another virtual machine does not always survive.
    """
    command = ["qemu-system-x86_64", "-machine", "pc", *qemu.EMULATION, "-m", "1024"]
    command += ["-display", "none", "-no-reboot", "-monitor", "none", "-boot", "n"]
    command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    command += ["-netdev", f"user,id=network,{network}", "-device", "virtio-net-pci,netdev=network"]
    if uefi:
        code, variables = qemu.firmware()
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        command += ["-drive", f"if=pflash,format=raw,snapshot=on,file={variables}"]
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / log).open("wb") as file, Machine(command, file) as machine:
        machine.wait(booted.UP, TIMEOUT)
        found = booted.Booted(machine.console.decode("utf-8", "replace"))
    booted.check_healthy(found, booted.product_of(iso), firmware="uefi" if uefi else "bios")
    booted.check_plugins(found)


@pytest.mark.slow
def test_by_ipxe_over_http(quickstart: Quickstart, server: Server) -> None:
    comes_up(f"bootfile=http://{HOST}:{server.port}/boot.ipxe", quickstart.respun, "pxe-ipxe.log")
    assert server.asked == ["/boot.ipxe", "/isolinux/vmlinuz0", "/isolinux/initrd0.img", "/respun.iso.cpio"]


def tftp_root(node: Path, directory: Path) -> Path:
    """A copy of what was written, for boot loaders to be put beside it."""
    shutil.copytree(node, directory, copy_function=os.link)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("form", "own"), [("i386-pc-pxe", "pxe"), ("x86_64-efi", "efinet")], ids=["bios", "uefi"])
def test_by_grub_over_tftp(quickstart: Quickstart, node: Path, tmp_path: Path, form: str, own: str) -> None:
    root = tmp_path / "tftp"
    root.mkdir()
    tftp_root(node, root / "node")
    (tmp_path / "early.cfg").write_text("serial\nterminal_output serial\nconfigfile (pxe)/node/grub.cfg\n")
    modules = [own, "tftp", "linux", "normal", "configfile", "serial", "echo"]
    command = ["grub-mkimage", "-O", form, "-c", tmp_path / "early.cfg", "-p", "(pxe)/", "-o", root / "grub"]
    subprocess.run([*command, *modules], check=True)
    comes_up(f"tftp={root},bootfile=/grub", quickstart.respun, f"pxe-grub-{own}.log", uefi=own == "efinet")


@pytest.mark.slow
def test_by_pxelinux_over_tftp(quickstart: Quickstart, node: Path, tmp_path: Path) -> None:
    if not PXELINUX.exists():
        pytest.skip("the package pxelinux is not installed")
    root = tftp_root(node, tmp_path / "tftp")
    shutil.copy(PXELINUX, root)
    shutil.copy(LDLINUX, root)
    comes_up(f"tftp={root},bootfile=/pxelinux.0", quickstart.respun, "pxe-pxelinux.log")
