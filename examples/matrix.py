"""The boot matrix of the example Node: every way it is started, stock and respun, as rows that hold or raise.

Standard library only. ``examples/boot-matrix`` runs the rows, and so do the tests, which take the list from here.
"""

from __future__ import annotations

import contextlib
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

from booted import UP, Booted, CheckError, check_healthy, check_plugins, check_stock, expect, product_of
from qemu import PROMPT, Boot, BootError, Machine, iso_file

INSTALLED = re.compile(rb"NODE: install (DONE|FAILED)")
UPGRADED = re.compile(rb"NODE: upgrade (DONE|FAILED)")
MEDIA_CHECK = re.compile(rb"result is: (PASS|FAIL)")
MEDIA_REFUSED = re.compile(rb"CD check failed")
ARGUMENTS = re.compile(rb"NODE: arguments ([^\r\n]*)\r?\n")
MAINTENANCE = re.compile(rb"Control-D to continue\): ")
PARAMETER = "matrix.typed=yes"
# What the matrix persists: a file of the administrator's, and a line in one of the vendor's.
KEPT, CONFIG = "/root/kept", "/etc/example-node/node.conf"
KEPT_TEXT, CONFIG_TEXT = "kept by the boot matrix", "# noted by the boot matrix"
DISK_SIZE = 2 << 30

__all__ = ["ROWS", "BootError", "CheckError", "Row", "World"]


@dataclass(frozen=True)
class World:
    """What a row works with. ``scratch`` is for disks, ``logs`` for consoles; ``timeout`` (seconds) is for one boot.

    ``layout`` is what the root images of both ISOs are: "nested" or "flat".
    """

    stock: Path
    respun: Path
    scratch: Path
    logs: Path
    kvm: bool = False
    timeout: float = 900.0
    layout: str = "nested"

    def iso(self, which: str) -> Path:
        """The ISO that is called "stock" or "respun"."""
        return self.stock if which == "stock" else self.respun

    @contextlib.contextmanager
    def machine(self, name: str, image: Path, *, uefi: bool = False, **options: object) -> Iterator[Machine]:
        """A running machine whose console goes to logs/NAME.log."""
        boot = Boot(image, uefi=uefi, kvm=self.kvm, **options)  # type: ignore[arg-type]
        with (self.logs / f"{name}.log").open("wb") as log, Machine(boot.command(), log) as machine:
            yield machine

    def disk(self, name: str) -> Path:
        """A new empty disk."""
        disk = self.scratch / f"{name}.img"
        with disk.open("wb") as file:
            file.truncate(DISK_SIZE)
        return disk


@dataclass(frozen=True)
class Row:
    """One line of the matrix; ``run`` raises BootError or CheckError when it does not hold.

    ``quick`` rows are those that the ordinary run of the tests includes.
    """

    name: str
    what: str
    run: Callable[[World], None]
    quick: bool = False


def _up(world: World, machine: Machine) -> Booted:
    machine.wait(UP, world.timeout)
    return Booted(machine.console.decode("utf-8", "replace"))


def _check(world: World, which: str, booted: Booted, firmware: str = "bios") -> None:
    check_healthy(booted, product_of(world.iso(which)), firmware=firmware, layout=world.layout)
    (check_plugins if which == "respun" else check_stock)(booted)


def _start(which: str, firmware: str, medium: str, world: World) -> None:
    name = f"{which}-{firmware}-{medium}"
    with world.machine(name, world.iso(which), uefi=firmware == "uefi", medium=medium) as machine:
        booted = _up(world, machine)
    _check(world, which, booted, firmware)
    live = booted.words("live")
    device = {"cd": "/dev/sr0", "disk": "/dev/vda", "usb": "/dev/sda"}[medium]
    expect("the medium", (live[0], live[1][: len(device)]), ("iso9660", device))


def _parameter(firmware: str, world: World) -> None:
    uefi = firmware == "uefi"
    with world.machine(f"respun-{firmware}-parameter", world.respun, uefi=uefi) as machine:
        machine.type_parameter(PARAMETER, uefi=uefi)
        arguments = machine.wait(ARGUMENTS, world.timeout).group(1).decode().split()
    expect("the typed parameter on the kernel's command line", arguments.count(PARAMETER), 1)
    expect("the menu's own arguments are there, too", "rd.live.image" in arguments, True)


def _rescue(firmware: str, world: World) -> None:
    with world.machine(f"respun-{firmware}-rescue", world.respun, uefi=firmware == "uefi") as machine:
        machine.choose("rescue")
        machine.wait(MAINTENANCE, world.timeout)
        machine.write(b"\n")
        machine.wait(PROMPT, world.timeout)
        state = machine.run("systemctl is-active rescue.target multi-user.target || true", world.timeout).split()
        modules = machine.run("ls /usr/lib/modules/*/extra/exnic", world.timeout).split()
    expect("rescue.target and multi-user.target", state, ["active", "inactive"])
    expect("the plugin's driver", modules, ["exnic.ko"])


def _media_check(world: World) -> None:
    with world.machine("respun-bios-media-check", world.respun) as machine:
        machine.choose("media")
        expect("the media check", machine.wait(MEDIA_CHECK, world.timeout).group(1), b"PASS")
        booted = _up(world, machine)
    _check(world, "respun", booted)


def _damaged(world: World, name: str) -> Path:
    """A copy of the respun ISO with one bit turned in a file that no boot reads."""
    data = bytearray(world.respun.read_bytes())
    place = data.find(iso_file(world.respun, "/isolinux/manifest-rpm.txt"))
    expect("the manifest is found", place > 0, True)
    data[place] ^= 1
    copy = world.scratch / f"{name}.iso"
    copy.write_bytes(data)
    return copy


def _media_check_damaged(world: World) -> None:
    name = "respun-uefi-media-check-damaged"
    with world.machine(name, _damaged(world, name), uefi=True) as machine:
        machine.choose("media")
        expect("the media check", machine.wait(MEDIA_CHECK, world.timeout).group(1), b"FAIL")
        machine.wait(MEDIA_REFUSED, world.timeout)


def _upgrade_damaged(world: World) -> None:
    name = "respun-upgrade-damaged"
    disk = world.disk(name)
    with world.machine(name, _damaged(world, name), disk=disk) as machine:
        machine.choose("upgrade")
        machine.wait(re.compile(rb"NODE: upgrade: the medium /dev/sr0 fails its media check"), world.timeout)
        expect("the upgrade", machine.wait(UPGRADED, world.timeout).group(1), b"FAILED")
        machine.wait_end(world.timeout)
    expect("blocks written to the disk", disk.stat().st_blocks, 0)


def _by_menu(world: World, name: str, which: str, disk: Path, entry: str, done: "re.Pattern[bytes]") -> str:
    """Let the menu's entry of an ISO do its work on the disk; return what was said."""
    with world.machine(name, world.iso(which), disk=disk) as machine:
        machine.choose(entry)
        expect(f"the {entry}", machine.wait(done, world.timeout).group(1), b"DONE")
        machine.wait_end(world.timeout)
        return machine.console.decode("utf-8", "replace")


def _persist(world: World, name: str, which: str, disk: Path) -> None:
    """Boot an installed disk, check it, and have it keep a file and a line in a configuration file."""
    with world.machine(name, disk, medium="disk") as machine:
        booted = _up(world, machine)
        machine.log_in(world.timeout)
        machine.run(f"echo '{KEPT_TEXT}' > {KEPT} && persist {KEPT} {CONFIG}", world.timeout)
        machine.run(f"echo '{CONFIG_TEXT}' >> {CONFIG} && sync", world.timeout)
        machine.write(b"poweroff\n")
        machine.wait_end(world.timeout)
    _installed(world, which, booted, 1, ["/root/installed"])


def _kept(world: World, name: str, which: str, disk: Path, root: int) -> None:
    """Boot the disk again: what was persisted is there."""
    with world.machine(name, disk, medium="disk") as machine:
        booted = _up(world, machine)
        machine.log_in(world.timeout)
        kept = machine.run(f"cat {KEPT}", world.timeout)
        config = machine.run(f"tail -n 1 {CONFIG}", world.timeout)
    _installed(world, which, booted, root, [CONFIG, "/root/installed", KEPT])
    expect("the persisted file", kept, KEPT_TEXT)
    expect("the persisted configuration", config, CONFIG_TEXT)


def _installed(world: World, which: str, booted: Booted, root: int, persisted: List[str]) -> None:
    _check(world, which, booted)
    expect("the root's partition", booted.words("live"), ["ext4", f"/dev/vda{root}"])
    expect("what is persisted", booted.words("config"), ["/dev/vda3", *persisted])


def _install(world: World) -> None:
    disk = world.disk("respun-install")
    _by_menu(world, "respun-install-1", "respun", disk, "install", INSTALLED)
    _persist(world, "respun-install-2", "respun", disk)
    _kept(world, "respun-install-3", "respun", disk, 1)


def _upgrade(world: World) -> None:
    disk = world.disk("respun-upgrade")
    _by_menu(world, "respun-upgrade-1", "stock", disk, "install", INSTALLED)
    _persist(world, "respun-upgrade-2", "stock", disk)
    said = _by_menu(world, "respun-upgrade-3", "respun", disk, "upgrade", UPGRADED)
    expect("the upgrade's own media check", "NODE: media-check of /dev/sr0 PASSED" in said, True)
    product = product_of(world.stock), product_of(world.respun)
    expect("the upgrade's names", f"upgrade of /dev/vda from {product[0]} to {product[1]}" in said, True)
    _kept(world, "respun-upgrade-4", "respun", disk, 2)


def _rows() -> Iterator[Row]:
    ways = [("bios", "cd"), ("bios", "disk"), ("bios", "usb"), ("uefi", "cd"), ("uefi", "usb")]
    for firmware, medium in ways:
        for which in ("stock", "respun"):
            what = f"the {which} ISO starts by {firmware.upper()} as a {medium.upper()}"
            run = functools.partial(_start, which, firmware, medium)
            yield Row(
                f"{which}-{firmware}-{medium}", what, run, quick=(which, firmware, medium) == ("respun", "bios", "cd")
            )
    for firmware, menu in (("bios", "isolinux's"), ("uefi", "GRUB's")):
        parameter = functools.partial(_parameter, firmware)
        yield Row(f"respun-{firmware}-parameter", f"a parameter typed at {menu} menu reaches the kernel", parameter)
        yield Row(
            f"respun-{firmware}-rescue", f"{menu} entry for rescue gives a shell", functools.partial(_rescue, firmware)
        )
    yield Row("respun-bios-media-check", "the media check passes and the Node starts", _media_check)
    yield Row("respun-uefi-media-check-damaged", "a turned bit fails the media check", _media_check_damaged)
    yield Row("respun-install", "installed from the menu; starts; keeps files over a reboot", _install)
    yield Row("respun-upgrade", "stock, installed, upgraded to the respun ISO in place; keeps files", _upgrade)
    yield Row("respun-upgrade-damaged", "the upgrade refuses a medium with a turned bit", _upgrade_damaged)


ROWS: Tuple[Row, ...] = tuple(_rows())


def chosen(pattern: Optional[str]) -> List[Row]:
    """The rows whose name holds the regular expression."""
    return [row for row in ROWS if pattern is None or re.search(pattern, row.name)]
