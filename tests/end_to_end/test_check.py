"""``respin check``: plugins are judged against a Node without building, kernel modules above all.

The modules are compiled against the headers of the Node's kernel; each negative test changes one thing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.forge import Done, Forge, respin
from tests.support.modules import Modules, compile_modules, for_release, with_other_crc

LSPCI = """\
00:00.0 Host bridge [0600]: Intel Corporation 440FX - 82441FX PMC [Natoma] [8086:1237] (rev 02)
00:03.0 Ethernet controller [0200]: Red Hat, Inc. Virtio network device [1af4:1000]
\tSubsystem: Red Hat, Inc. Virtio network device [1af4:0001]
00:05.0 Ethernet controller [0200]: Example 10G [dead:beef] (rev 01) (prog-if 00 [Normal])
00:06.0 Ethernet controller [0200]: Example 100G [dead:0001]
"""


@pytest.fixture(scope="module")
def modules(stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """Modules for the kernel of the stock Node."""
    (release,) = respin("inspect", stock_iso, "--json").json["node"]["kernels"]
    return compile_modules(release, tmp_path_factory.mktemp("modules"))


class Checks:
    """Makes plugins of modules and runs ``respin check``."""

    def __init__(self, forge: Forge, modules: Modules) -> None:
        self.forge, self.modules = forge, modules

    def plugin(
        self, drivers: Mapping[str, bytes], *, files: Optional[Mapping[str, Any]] = None, effects: str = ""
    ) -> Path:
        placed: Dict[str, Any] = {
            f"/lib/modules/{self.modules.release}/extra/{name}.ko": content for name, content in drivers.items()
        }
        named = ", ".join(f'"{name}"' for name in sorted(drivers))
        return self.forge.plugin(
            "driver", files={**placed, **(files or {})}, effects=f"kernel_modules = [{named}]\n{effects}"
        )

    def run(self, *arguments: object, base: Optional[Path] = None) -> Done:
        return respin("check", *arguments, "--base", base or self.forge.iso, "--trust", self.forge.keys.trust)


@pytest.fixture(scope="module")
def checks(forge: Forge, modules: Modules) -> Checks:
    """Everything that a check needs."""
    return Checks(forge, modules)


@pytest.fixture(scope="module")
def good(checks: Checks, modules: Modules) -> Path:
    """A plugin of all three modules and the firmware that one of them wants."""
    drivers = {"testbase": modules.base, "testuser": modules.user, "testfirmware": modules.firmware}
    return checks.plugin(drivers, files={"/usr/lib/firmware/test/one.bin": "firmware\n"})


def findings(done: Done) -> List[str]:
    assert done.code == 4, done.err
    return [finding["id"] for finding in done.json["findings"]]


def test_modules_that_fit_are_said_to_load(checks: Checks, good: Path, modules: Modules) -> None:
    done = checks.run(good, "--base-checksum", checks.forge.checksum, "--json")
    assert done.code == 0, done.err
    document = done.json
    assert (document["schema"], document["passed"], document["base"]) == ("respin.check/1", True, "vendor-signed")
    drivers = {driver["name"]: driver for driver in document["drivers"]}
    assert sorted(drivers) == ["testbase", "testfirmware", "testuser"]
    assert all(driver["loads"] for driver in drivers.values())
    assert drivers["testuser"]["depends"] == ["testbase"]
    assert drivers["testfirmware"]["firmware"] == {"test/one.bin": "/usr/lib/firmware/test/one.bin"}
    assert "not signed" in drivers["testbase"]["secure_boot"]
    shown = checks.run(good)
    assert "FITS" in shown.out
    assert "not verified" in shown.out


def test_what_is_said_of_a_module_is_what_kmod_says(
    checks: Checks, good: Path, modules: Modules, tmp_path: Path
) -> None:
    file = tmp_path / "testuser.ko"
    file.write_bytes(modules.user)
    driver = next(one for one in checks.run(good, "--json").json["drivers"] if one["name"] == "testuser")

    def modinfo(field: str) -> str:
        return subprocess.run(["/sbin/modinfo", "-F", field, file], capture_output=True, text=True, check=True).stdout

    dumped = subprocess.run(
        ["/sbin/modprobe", "--dump-modversions", file], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert driver["vermagic"] == modinfo("vermagic").rstrip("\n")
    assert driver["depends"] == modinfo("depends").split()
    assert driver["symbols"] == len(dumped)


def test_a_listing_of_devices_tells_what_will_be_driven(checks: Checks, good: Path, tmp_path: Path) -> None:
    listing = tmp_path / "lspci"
    listing.write_text(LSPCI)
    devices = {one["id"]: one for one in checks.run(good, "--lspci", listing, "--json").json["devices"]}
    assert (devices["dead:beef"]["before"], devices["dead:beef"]["after"]) == (
        [],
        [{"module": "testbase", "certain": True}],
    )
    assert devices["1af4:1000"]["before"] == devices["1af4:1000"]["after"] != []
    assert devices["dead:0001"]["after"] == []


def test_a_listing_without_numbers_is_refused(checks: Checks, good: Path, tmp_path: Path) -> None:
    listing = tmp_path / "lspci"
    listing.write_text("00:05.0 Ethernet controller: Example 10G (rev 01)\n")
    done = checks.run(good, "--lspci", listing)
    assert done.code == 3
    assert "lspci -nn" in done.err


def test_a_module_for_another_kernel_is_refused(checks: Checks, modules: Modules) -> None:
    other = modules.release.replace("6", "5", 1)
    module = for_release(modules.firmware, modules.release, other)
    plugin = checks.plugin({"testfirmware": module}, effects='accepts_unmet = ["firmware(test/one.bin)"]')
    done = checks.run(plugin, "--json")
    assert findings(done) == ["kernel-mismatch"]
    assert other in done.json["findings"][0]["message"]


def test_a_module_for_another_kernel_can_be_accepted_when_its_symbols_are_the_same(
    checks: Checks, modules: Modules
) -> None:
    other = modules.release.replace("6", "5", 1)
    accepted = f'accepts_unmet = ["firmware(test/one.bin)", "vermagic({other})"]'
    module = for_release(modules.firmware, modules.release, other)
    assert checks.run(checks.plugin({"testfirmware": module}, effects=accepted)).code == 0
    changed = with_other_crc(module, "_printk")
    assert findings(checks.run(checks.plugin({"testfirmware": changed}, effects=accepted), "--json")) == [
        "kernel-mismatch",
        "symbol-crc",
    ]


def test_one_changed_symbol_is_refused(checks: Checks, modules: Modules) -> None:
    module = with_other_crc(modules.base, "_printk")
    done = checks.run(checks.plugin({"testbase": module}), "--json")
    assert findings(done) == ["symbol-crc"]
    assert "_printk" in done.json["findings"][0]["message"]


def test_missing_firmware_is_refused_unless_it_is_accepted(checks: Checks, modules: Modules) -> None:
    done = checks.run(checks.plugin({"testfirmware": modules.firmware}), "--json")
    assert findings(done) == ["firmware-missing"]
    accepted = checks.plugin({"testfirmware": modules.firmware}, effects='accepts_unmet = ["firmware(test/one.bin)"]')
    assert checks.run(accepted).code == 0


def test_a_missing_dependency_is_refused(checks: Checks, modules: Modules) -> None:
    done = checks.run(checks.plugin({"testuser": modules.user}), "--json")
    assert findings(done) == ["module-dependency"]
    assert "testbase" in done.json["findings"][0]["message"]


def test_what_only_is_called_a_module_is_refused(checks: Checks) -> None:
    assert findings(checks.run(checks.plugin({"nothing": b"not a module\n"}), "--json")) == ["bad-module"]


def test_a_build_refuses_what_the_check_refuses(checks: Checks, modules: Modules, tmp_path: Path) -> None:
    plugin = checks.plugin({"testbase": with_other_crc(modules.base, "_printk")})
    done = checks.forge.build(tmp_path / "out.iso", plugin)
    assert done.code == 4
    assert "[symbol-crc]" in done.err
    assert not (tmp_path / "out.iso").exists()


def test_a_respun_base_is_sent_back(checks: Checks, good: Path, respun: Respun) -> None:
    done = checks.run(good, base=respun.iso)
    assert done.code == 2
    assert "respin restore" in done.err
