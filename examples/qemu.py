"""Boot a Node in QEMU, watch its serial console and type on it.

Standard library only, as examples/boot and examples/boot-matrix run without the venv.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, List, Optional, Pattern, Sequence, Tuple, Type

import kvmprobe

# Firmware: (code, variables), as Debian and as Fedora and EL place them.
OVMF = (
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
)
KVM = ("-accel", "kvm", "-cpu", "host", "-smp", "2")
# A plain processor, as emulating the instructions of a better one made boots slower and less steady on a busy host. One
# of it: several wait for each other until the kernel's watchdogs bark.
EMULATION = ("-accel", "tcg", "-cpu", "qemu64,rdrand=on", "-smp", "1")
# What isolinux's menu and GRUB's say while they count down.
COUNTDOWN = re.compile(rb"Automatic boot in|will be executed automatically in")
DISASTER = re.compile(
    rb"Kernel panic|[Ee]mergency mode|Entering emergency|No bootable device|boot: Could not find|KVM internal error"
)
# The entries of the example Node's boot menu; those that write to a disk are in isolinux's only.
ENTRIES = ("start", "install", "upgrade", "media", "rescue")
INITRD = "/isolinux/initrd0.img"
# A shell's prompt at the end of all that was printed, and the status of a command that was typed there.
PROMPT = re.compile(rb"[#$] \Z")
STATUS = re.compile(rb"status=([0-9]+)\r")
# What a shell says to a terminal and to nobody who reads: colours, the ends of a paste.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TAB, LINE_DOWN, LINE_END, START = b"\t", b"\x0e", b"\x05", b"\x18"  # the last three: GRUB's editor, as in Emacs


class BootError(Exception):
    """The machine did not get where it should; the message has the end of its console."""


@dataclass(frozen=True)
class Boot:
    """How to boot ``image``, which is in the machine as ``medium``: "cd", "disk" (virtio) or "usb" (a stick).

    ``disk`` is a further disk (/dev/vda when booting from CD or USB), ``append`` goes to the kernel, which QEMU then
    loads itself. Without ``kvm``, software emulation, which works everywhere.
    """

    image: Path
    uefi: bool = False
    medium: str = "cd"
    disk: Optional[Path] = None
    append: Optional[str] = None
    memory: int = 1024
    kvm: bool = False

    def command(self) -> List[str]:
        """The command line of QEMU, serial console on its standard input and output."""
        command = ["qemu-system-x86_64", "-machine", "pc", *(KVM if self.kvm else EMULATION)]
        command += ["-m", str(self.memory)]
        command += ["-display", "none", "-no-reboot", "-nic", "none"]
        command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-monitor", "none"]
        if self.uefi:
            code, variables = firmware()
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
            command += ["-drive", f"if=pflash,format=raw,snapshot=on,file={variables}"]
        # An ISO is never written to; an installed disk keeps what its Node persists.
        drive = f"format=raw,snapshot={'on' if self.image.suffix == '.iso' else 'off'},file={self.image}"
        if self.medium == "cd":
            command += ["-drive", f"if=ide,media=cdrom,readonly=on,format=raw,file={self.image}", "-boot", "d"]
        elif self.medium == "usb":
            command += ["-device", "qemu-xhci", "-drive", f"if=none,id=stick,{drive}"]
            command += ["-device", "usb-storage,drive=stick,removable=on,bootindex=0"]
        else:
            command += ["-drive", f"if=virtio,{drive}"]
        if self.disk:
            command += ["-drive", f"if=virtio,format=raw,file={self.disk}"]
        return command

    def direct_kernel(self, directory: Path) -> List[str]:
        """Options that boot the ISO's own kernel with ``append`` behind the menu's arguments."""
        kernel, initrd = directory / "vmlinuz0", directory / "initrd0.img"
        kernel.write_bytes(iso_file(self.image, "/isolinux/vmlinuz0"))
        initrd.write_bytes(iso_file(self.image, INITRD))
        menu = iso_file(self.image, "/isolinux/isolinux.cfg").decode()
        appended = re.search(r"^\s*append initrd=\S+ (.*)$", menu, re.MULTILINE)
        arguments = f"{appended.group(1) if appended else ''} {self.append}"
        return ["-kernel", str(kernel), "-initrd", str(initrd), "-append", arguments]


def firmware() -> Tuple[str, str]:
    """UEFI firmware for QEMU: (code, variables)."""
    for pair in OVMF:
        if all(os.path.exists(path) for path in pair):
            return pair
    raise BootError("no UEFI firmware for QEMU here: install the package ovmf")


def kvm_works(timeout: float = 20) -> bool:
    """Whether KVM works here: see kvmprobe."""
    return kvmprobe.kvm_opens() and kvmprobe.runs(KVM, timeout)


def iso_file(iso: Path, path: str) -> bytes:
    """A file of an ISO, read by isoinfo."""
    return subprocess.run(["isoinfo", "-R", "-i", str(iso), "-x", path], stdout=subprocess.PIPE, check=True).stdout


class Machine:
    """A running QEMU. A context manager: leaving it ends the machine.

    Everything on the console goes to ``log`` and, if given, to ``echo``.
    """

    def __init__(self, command: Sequence[str], log: BinaryIO, echo: Optional[BinaryIO] = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        self._log = log
        self._echo = echo
        self._console = b""
        self._position = 0
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def console(self) -> bytes:
        """All that was written to the console so far."""
        return self._console

    @property
    def running(self) -> bool:
        """Whether QEMU still runs."""
        return self._process.poll() is None

    def wait(self, pattern: Pattern[bytes], timeout: float) -> "re.Match[bytes]":
        """Wait for ``pattern`` in what comes on the console after the last match; BootError on disaster or timeout."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = pattern.search(self._console, self._position)
                if found:
                    self._position = found.end()
                    return found
                disaster = DISASTER.search(self._console, self._position)
                if disaster:
                    raise self._failure(f"the console says {disaster.group().decode()!r}")
                if self._ended:
                    raise self._failure("QEMU has ended")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._failure(f"{pattern.pattern!r} did not come within {timeout:.0f} s")
                self._changed.wait(left)

    def wait_end(self, timeout: float) -> None:
        """Wait until the machine has switched itself off."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise self._failure(f"the machine still runs after {timeout:.0f} s") from error

    def write(self, text: bytes) -> None:
        """Type on the console; in vain when the machine has ended."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(text)
        except BrokenPipeError:
            pass

    def log_in(self, timeout: float) -> None:
        """Log in as root, who has no password, on a Node that has come up."""
        self.write(b"root\n")
        self.wait(PROMPT, timeout)

    def run(self, command: str, timeout: float) -> str:
        """Type a shell command at the prompt and return what it printed; BootError when its status is not 0."""
        start = len(self._console)
        # The status is printed alone on its line; what is typed does not match it.
        self.write(f"{command}; echo status=$?\n".encode())
        status = self.wait(STATUS, timeout).group(1)
        printed = self._console[start : self._position].decode("utf-8", "replace")
        if status != b"0":
            raise self._failure(f"{command!r} ended with {status.decode()}")
        self.wait(PROMPT, timeout)
        return ESCAPES.sub("", printed.partition("status=$?")[2].rpartition("status=")[0]).strip()

    def type_parameter(self, parameter: str, *, uefi: bool, timeout: float = 120) -> None:
        """Add a kernel parameter to the menu's default entry: Tab in isolinux's menu, ``e`` in GRUB's; start it."""
        self.wait(COUNTDOWN, timeout)
        typed = f" {parameter}".encode()
        if uefi:
            self.write(b"e")
            self.wait(re.compile(rb"initrd"), timeout)
            # Above the kernel's line stand the entry's name and the rest of its first line, which is empty.
            self.write(2 * LINE_DOWN + LINE_END + typed + START)
        else:
            self.write(TAB)
            self.wait(re.compile(rb"initrd="), timeout)
            self.write(typed + b"\r")

    def choose(self, entry: str, timeout: float = 120) -> None:
        """Choose the boot menu's entry that starts with the letter of ``entry``: see ENTRIES."""
        self.wait(COUNTDOWN, timeout)
        self.write(entry[0].encode())
        # isolinux's hot key moves the bar and waits; GRUB's starts the entry, and nobody sees the line end.
        time.sleep(0.5)
        self.write(b"\r")

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            data = self._process.stdout.read(65536)
            if data:
                self._log.write(data)
                self._log.flush()
                if self._echo:
                    self._echo.write(data)
                    self._echo.flush()
            with self._changed:
                self._console += data
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

    def _failure(self, what: str) -> BootError:
        end = self._console[-3000:].decode("utf-8", "replace")
        return BootError(f"{what}; the console ended in:\n{end}")
