"""Whether KVM runs what a boot needs.

There are machines where /dev/kvm opens and a firmware starts, but an interrupt in protected mode, which isolinux takes
all the time, stops the machine; others restart it at its first step. So a boot sector calls the BIOS, goes to protected
mode, and sleeps there through a second of timer interrupts before it ends QEMU with a status that nothing else gives.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import Sequence

# Intel syntax; loaded at 7c00h. The PIC stays as the BIOS left it, so the timer's interrupt is vector 8.
_SECTOR = bytes.fromhex(
    "fa 31c0 8ed8 8ec0 8ed0 bc007c"  # cli; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,7c00h
    "a30020 fb b82e0e 31db cd10 fa"  # mov [2000h],ax; sti; mov ax,0e2eh; xor bx,bx; int 10h; cli
    "bf0010 b90001"  # mov di,1000h; mov cx,256: the interrupt descriptor table, every gate the same
    "c7056f7c c745020800 c74504008e c745060000 83c708 e2e8"  # gate: offset handler, selector 8, 32-bit; loop
    "0f011e987c 0f01169e7c 0f20c0 0c01 0f22c0 ea4d7c0800"  # lidt; lgdt; mov eax,cr0; or al,1; mov cr0,eax; jmp 8:pm
    "66b81000 8ed8 8ec0 8ed0 bc007c0000 fb"  # pm: mov ax,16; mov ds,ax; mov es,ax; mov ss,ax; mov esp,7c00h; sti
    "f4 66833d0020000012 72f5"  # wait: hlt; cmp word [2000h],18; jb wait
    "b02a e6f4 f4 ebfd"  # mov al,42; out 0f4h,al; end: hlt; jmp end
    "60 66ff0500200000 b020 e620 61 cf"  # handler: pushad; inc word [2000h]; mov al,20h; out 20h,al; popad; iretd
    "8d7600 0000000000000000 ffff0000009acf00 ffff00000092cf00"  # padding; descriptors: none, code, data
    "ff0700100000 1700807c0000"  # pointers for lidt (1000h) and lgdt (7c80h)
).ljust(510, b"\0") + bytes.fromhex("55aa")
_STATUS = 42 << 1 | 1  # what QEMU makes of what is written to its debug port


def runs(acceleration: Sequence[str], timeout: float) -> bool:
    """Whether QEMU with the options ``acceleration`` runs the boot sector to its end within ``timeout`` seconds."""
    with tempfile.NamedTemporaryFile(prefix="kvm-probe-") as floppy:
        floppy.write(_SECTOR)
        floppy.flush()
        command = ["qemu-system-x86_64", "-machine", "pc", *acceleration, "-display", "none", "-nic", "none"]
        command += ["-monitor", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        command += ["-drive", f"if=floppy,format=raw,readonly=on,file={floppy.name}", "-boot", "a"]
        quiet = subprocess.DEVNULL
        try:
            done = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=timeout)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == _STATUS


def kvm_opens() -> bool:
    """Whether this user may use /dev/kvm."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
