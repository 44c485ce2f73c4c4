"""Files that would be found instead of the vendor's are refused; the same files under names of their own are not."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import pytest

from respin.node.places import RESERVED
from respin.policy.overrides import judge_overrides
from respin.safepath import first_match

VENDOR = (
    "/usr/lib/systemd/system/debug-shell.service",
    "/usr/lib/systemd/system/getty@.service",
    "/usr/lib/systemd/system/multi-user.target",
    "/usr/lib/udev/rules.d/60-block.rules",
    "/usr/lib/tmpfiles.d/systemd.conf",
    "/usr/share/dbus-1/system-services/org.example.Vendor.service",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/python3.9/os.py",
    "/usr/lib/python3.9/json/__init__.py",
    "/usr/lib/python3.9/site-packages/vendor/__init__.py",
    "/usr/lib/python3.9/site-packages/vendor/tool.py",
    "/usr/lib64/python3.9/site-packages/fast.so",
    "/usr/lib/firmware/nic/fw.bin.xz",
    "/usr/lib/firmware/nic/plain.bin",
)
RELEASE = "6.1.0"


class Root:
    """As much of an ExtImage as the rules ask for, over the names of :data:`VENDOR`."""

    def lookup(self, path: str) -> Any:
        below = [name for name in VENDOR if name == path or name.startswith(path + "/")]
        return SimpleNamespace(is_directory=path not in VENDOR) if below else None

    def resolve(self, path: str) -> Any:
        return self.lookup(path if path.startswith("/usr/") else f"/usr{path}")

    def listdir(self, path: str) -> List[str]:
        return sorted({name[len(path) + 1 :].split("/")[0] for name in VENDOR if name.startswith(path + "/")})


def found(*paths: str) -> List[str]:
    entry = SimpleNamespace(mode=stat.S_IFREG | 0o644)
    planned = SimpleNamespace(entry=entry, nevra="plugin-1-1.noarch")
    plan: Any = SimpleNamespace(
        node=SimpleNamespace(root=Root(), profile=SimpleNamespace(protected={}), kernel_releases=(RELEASE,)),
        files={path: planned for path in paths},
    )
    return [finding.place for finding in judge_overrides(plan)]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system/debug-shell.service",
        "/usr/lib/firmware/nic/fw.bin",
        "/usr/lib/firmware/updates/nic/fw.bin",
        "/lib/firmware/updates/nic/plain.bin.zst",
        f"/usr/lib/firmware/{RELEASE}/nic/plain.bin",
        f"/usr/lib/firmware/updates/{RELEASE}/nic",
        "/usr/lib/firmware/updates",
        "/etc/systemd/system/getty@tty1.service",
        "/etc/systemd/system/debug-shell.service.d/10.conf",
        "/usr/lib/systemd/system/multi-user.target.d/10.conf",
        "/etc/systemd/system/getty@tty1.service.d/10.conf",
        "/etc/systemd/system/sysinit.target.wants/debug-shell.service",
        "/usr/lib/systemd/system/sysinit.target.requires/getty@tty9.service",
        "/etc/systemd/system/sysinit.target.upholds/debug-shell.service",
        "/etc/udev/rules.d/60-block.rules",
        "/etc/tmpfiles.d/systemd.conf",
        "/etc/dbus-1/system-services/org.example.Vendor.service",
        "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libc.so.6",
        "/opt/plugin/glibc-hwcaps/x86-64-v3/libc.so.6",
        "/usr/lib/x86_64-linux-gnu/haswell/libc.so.6",
        "/etc/modprobe.d",
        "/etc/udev",
        "/etc/systemd/system/sysinit.target.wants",
        "/etc/systemd/system/getty@.service.d",
        "/etc/ssh",
        "/usr/lib/python3.9/plugin.py",
        "/usr/lib/python3.9/__pycache__/os.cpython-39.pyc",
        "/usr/lib/python3.9/site-packages/json.py",
        "/usr/lib/python3.9/site-packages/fast.py",
        "/usr/lib64/python3.9/site-packages/vendor/extra.py",
        "/usr/lib/python3.9/site-packages/vendor/tool.so",
        "/usr/lib/python3.9/site-packages/vendor/tool/__init__.py",
        "/usr/lib/python3.9/site-packages/vendor/__pycache__/tool.cpython-39.pyc",
    ],
)
def test_what_would_be_found_first_is_refused(path: str) -> None:
    assert found(path) == [path]


def test_files_under_names_of_their_own_are_not_refused() -> None:
    paths = (
        "/usr/lib/systemd/system/plugin.service",
        "/usr/lib/systemd/system/plugin@.service",
        "/usr/lib/systemd/system/plugin.service.d/10.conf",
        "/etc/systemd/system/multi-user.target.wants/plugin.service",
        "/etc/systemd/system/multi-user.target.wants/plugin@one.service",
        "/etc/udev/rules.d/60-plugin.rules",
        "/usr/lib/tmpfiles.d/plugin.conf",
        "/opt/plugin/lib/libc.so.6",
        "/usr/lib/libplugin.so",
        "/usr/lib/x86_64-linux-gnu/libplugin.so",
        "/usr/lib/python3.9/site-packages/plugin/__init__.py",
        "/usr/lib/python3.9/site-packages/plugin-1.0.dist-info/METADATA",
        "/usr/lib/python3.9/site-packages/vendor/plugin.py",
    )
    assert found(*paths) == []


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/systemd/system-generators/plugin",
        "/etc/systemd/journald.conf.d/plugin.conf",
        "/etc/sudoers.d/plugin",
        "/etc/profile.d/plugin.sh",
        "/etc/ssh/sshd_config.d/plugin.conf",
        "/usr/lib/x86_64-linux-gnu/libnss_plugin.so.2",
        "/usr/lib64/gconv/gconv-modules.d/plugin.conf",
        "/usr/lib/python311.zip",
        "/usr/lib/python3/dist-packages/plugin.pth",
        "/usr/lib/dracut/modules.d/99plugin/module-setup.sh",
        "/etc/rc.local",
        "/etc/blkid.conf",
    ],
)
def test_reserved_places(path: str) -> None:
    assert first_match(path, RESERVED)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/modprobe.d/plugin.conf",
        "/usr/lib/udev/rules.d/60-plugin.rules",
        "/etc/sysctl.d/60-plugin.conf",
        "/usr/lib/modules-load.d/plugin.conf",
        "/etc/logrotate.d/plugin",
        "/etc/ld.so.conf.d/plugin.conf",
        "/usr/lib/systemd/system/plugin.service",
        "/usr/lib/python3/dist-packages/plugin.py",
    ],
)
def test_places_that_drivers_need_are_not_reserved(path: str) -> None:
    assert first_match(path, RESERVED) is None


def test_the_tree_that_the_fake_root_shows() -> None:
    assert Root().listdir("/usr/lib/udev") == ["rules.d"]
    assert not Root().lookup(str(Path(VENDOR[0]))).is_directory
