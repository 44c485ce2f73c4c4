"""Drop-in files of a plugin may speak of what is its own only; what drivers need passes."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any, List

import pytest

from respin.node.knownprofiles import built_in
from respin.policy import settings

VENDOR = ("/usr/lib/modules/6.1/kernel/e1000.ko", "/usr/sbin/persist", "/var/log/journal", "/run")
OWN = (
    "/usr/lib/systemd/system/plugin.service",
    "/usr/lib/systemd/system/plugin@.service",
    "/usr/libexec/plugin/tool",
)


class Root:
    """As much of an ExtImage as the rules ask for: the vendor's names, and one file of a plugin."""

    view = SimpleNamespace(name="root")

    def lookup(self, path: str) -> Any:
        if not any(name == path or name.startswith(path.rstrip("/") + "/") for name in VENDOR):
            return None
        return SimpleNamespace(is_directory=path not in VENDOR[:2], mode=stat.S_IFDIR)

    def walk(self, top: str) -> List[Any]:
        return [(name, None) for name in VENDOR if name.startswith(top + "/")]


def judge(path: str, content: str, monkeypatch: pytest.MonkeyPatch) -> List[str]:
    monkeypatch.setattr(settings, "read_file", lambda root, wanted: content.encode() if wanted == path else None)
    planned = SimpleNamespace(entry=SimpleNamespace(mode=stat.S_IFREG | 0o644), nevra="plugin-1-1.noarch")
    profile = next(one for one in built_in() if one.id == "example-node")
    plan: Any = SimpleNamespace(
        node=SimpleNamespace(root=Root(), profile=profile),
        files={name: planned for name in (*OWN, path)},
        declared=lambda effect: {"users": ("plugin",), "groups": ("plugins",)}[effect],
    )
    return [finding.message for finding in settings.judge_settings(plan, Root())]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/usr/lib/systemd/system-preset/50-plugin.preset", "disable node-config.service"),
        ("/usr/lib/systemd/system-preset/50-plugin.preset", "enable *"),
        ("/etc/modprobe.d/plugin.conf", "install e1000 /usr/libexec/plugin/tool"),
        ("/etc/modprobe.d/plugin.conf", "inst\\\nall e1000 /usr/libexec/plugin/tool"),
        ("/etc/modprobe.d/plugin.conf", "# a comment \\\ninstall e1000 /bin/false"),
        ("/usr/lib/modprobe.d/plugin.conf", "remove\tplugin /bin/true"),
        ("/etc/modprobe.d/plugin.conf", "alias e1000 plugin"),
        ("/etc/modprobe.d/plugin.conf", "alias e1?00* plugin"),
        ("/usr/lib/sysusers.d/plugin.conf", "u stranger - -"),
        ("/usr/lib/sysusers.d/plugin.conf", "u plugin 0 -"),
        ("/usr/lib/sysusers.d/plugin.conf", "u plugin 990:root -"),
        ("/usr/lib/sysusers.d/plugin.conf", "m plugin sudo"),
        ("/usr/lib/sysusers.d/plugin.conf", "r - 1-500"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "L+ /usr/sbin/persist - - - - /usr/libexec/plugin/tool"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "d /run/plugin \\\nz /usr/sbin/* 0777"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "d /run 0777"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "R /var/*"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "f /run/systemd/system/node-config.service.d/x.conf"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "f /run/modprobe.d/x.conf"),
        ("/usr/lib/tmpfiles.d/plugin.conf", 'f "/var/../usr/sbin/persist"'),
        ("/usr/lib/tmpfiles.d/plugin.conf", "f %h/x"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "d /config/x"),
    ],
)
def test_a_line_for_what_is_not_its_own(path: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(path, f"# plugin\n{line}\n", monkeypatch)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/usr/lib/systemd/system-preset/50-plugin.preset", "enable plugin.service\nenable plugin@one.service\n"),
        (
            "/etc/modprobe.d/plugin.conf",
            "options plugin depth=2 \\\n  width=3\nblacklist e1000\nsoftdep plugin pre: e1000\nalias pci:v00* plugin\n",
        ),
        ("/usr/lib/sysusers.d/plugin.conf", 'u plugin - "The plugin" /var/lib/plugin\ng plugins -\nm plugin plugins\n'),
        ("/usr/lib/tmpfiles.d/plugin.conf", "d /run/plugin 0750 plugin\nz /usr/libexec/plugin/tool 0755\n"),
        ("/usr/lib/tmpfiles.d/plugin.conf", "w /sys/module/plugin/parameters/depth - - - - 2\n"),
        ("/etc/udev/rules.d/60-plugin.rules", "install remove\n"),
    ],
)
def test_what_drivers_and_agents_need(path: str, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(path, content, monkeypatch) == []
