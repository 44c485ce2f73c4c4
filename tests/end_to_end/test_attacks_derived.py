"""A hostile author with a trusted key changes what nobody signs: links of units, accounts, linker cache, ghosts."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from respin.formats import ldcache
from tests.support.attacker import evil_build
from tests.support.forge import Forge

UNITS = {
    "/usr/lib/systemd/system/linked.service": "[Service]\nExecStart=/bin/true\n"
    "[Install]\nWantedBy=multi-user.target\nAlias=dbus-org.example.linked.service\nAlso=linked.socket\n",
    "/usr/lib/systemd/system/linked.socket": "[Socket]\nListenStream=/run/linked\n[Install]\nWantedBy=sockets.target\n",
    "/usr/lib/systemd/system/linked@.service": "[Service]\nExecStart=/bin/true\n"
    "[Install]\nWantedBy=multi-user.target\nDefaultInstance=first\n",
}
ETC = "/etc/systemd/system"
LIB = "/usr/lib/systemd/system"
ENABLED = ("linked.service", "linked.socket", "linked@first.service", "linked@eth0.service")


def refused(forge: Forge, iso: Path, finding: str, place: str) -> None:
    """Verification refuses the ISO by the rules, and names what was changed."""
    done = forge.verify(iso, base=None)
    assert done.code == 4, done.out
    error = done.json["error"]
    said = [f"{error['where']} [{error['finding']}]", *error["also"]]
    assert any(place in one and f"[{finding}]" in one for one in said), said


def dump(image: Path, path: str, to: Path) -> bytes:
    """The content of a file in a root image."""
    subprocess.run(["debugfs", "-R", f"dump {path} {to}", image], check=True, capture_output=True)
    return to.read_bytes()


def replacing(path: str, new: Path, mode: str) -> List[str]:
    """What puts another file in place of one."""
    group = [f"set_inode_field {path} gid 42"] if mode == "0100640" else []
    return [f"rm {path}", f"write {new} {path}", f"set_inode_field {path} mode {mode}", *group]


@pytest.fixture(scope="module")
def linked_plugin(forge: Forge) -> Path:
    """A plugin whose units are enabled in every way that an honest package uses."""
    units = ", ".join(f'"{unit}"' for unit in ENABLED)
    return forge.plugin(
        "linked",
        files={**UNITS, "/etc/cron.d/linked": "", "/var/lib/linked/state": "", "/var/lib/linked/keep": "x\n"},
        directives={"/etc/cron.d/linked": "%ghost", "/var/lib/linked/state": "%ghost"},
        sections="%post\nsystemctl enable linked.service linked@.service linked@eth0.service || exit 1\n",
        effects=f"units = [{units}]",
    )


def test_units_that_are_enabled_in_every_way_are_let_through(forge: Forge, linked_plugin: Path, tmp_path: Path) -> None:
    done = forge.build(tmp_path / "out.iso", linked_plugin, json=True)
    assert done.code == 0, done.err
    done = forge.verify(tmp_path / "out.iso", base=None)
    assert done.code == 0, done.out


@pytest.mark.parametrize(
    ("commands", "finding", "place"),
    [
        ([f"rm {ETC}/multi-user.target.wants/linked.service"], "effect-mismatch", "linked.service"),
        ([f"rm {ETC}/dbus-org.example.linked.service"], "effect-mismatch", "dbus-org.example.linked.service"),
        (
            [
                f"mkdir {ETC}/systemd-udevd.service.requires",
                f"cd {ETC}/systemd-udevd.service.requires",
                f"symlink linked.service {LIB}/linked.service",
            ],
            "undeclared-effect",
            f"{ETC}/systemd-udevd.service.requires/linked.service",
        ),
        (
            [
                f"rm {ETC}/multi-user.target.wants/linked.service",
                f"cd {ETC}/multi-user.target.wants",
                "symlink linked.service /var/tmp/linked.service",
            ],
            "undeclared-effect",
            f"{ETC}/multi-user.target.wants/linked.service",
        ),
        (
            [f"cd {ETC}/multi-user.target.wants", f"symlink linked@evil.service {LIB}/linked@.service"],
            "undeclared-effect",
            f"{ETC}/multi-user.target.wants/linked@evil.service",
        ),
        (
            ["cd /etc/cron.d", "symlink linked /var/lib/linked/state", "cd /var/lib/linked", "write {state} state"],
            "content",
            "/etc/cron.d/linked",
        ),
    ],
    ids=["disabled", "alias", "required", "elsewhere", "instance", "ghost"],
)
def test_links_that_the_plugins_scriptlet_did_not_make(
    forge: Forge,
    linked_plugin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: List[str],
    finding: str,
    place: str,
) -> None:
    state = tmp_path / "state"
    state.write_text("* * * * * root /var/tmp/evil\n")
    said = [one.format(state=state) for one in commands]
    refused(forge, evil_build(forge, linked_plugin, tmp_path / "evil.iso", said, monkeypatch), finding, place)


@pytest.mark.parametrize(
    ("path", "mode", "change"),
    [
        ("/etc/shadow", "0100640", lambda data: re.sub(rb"(?m)^good:.*\n", b"", data)),
        ("/etc/passwd", "0100644", lambda data: re.sub(rb"(?m)^(good:.*):[^:]*:[^:]*$", rb"\1:/:/bin/bash", data)),
        ("/etc/passwd", "0100644", lambda data: b"good:x:12345:12345::/:/usr/sbin/nologin\n" + data),
        ("/etc/group", "0100644", lambda data: re.sub(rb"(?m)^(good:.*)$", rb"\1daemon", data)),
        ("/etc/subuid", "0100644", lambda data: data + b"good:100000:4294867295\n"),
    ],
    ids=["unlocked", "shell", "second line", "member", "range"],
)
def test_a_user_database_with_one_thing_wrong(
    forge: Forge,
    good_plugin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    mode: str,
    change: Callable[[bytes], bytes],
) -> None:
    new = tmp_path / "new"

    def prepare(image: Path) -> None:
        data = dump(image, path, new)
        assert change(data) != data
        new.write_bytes(change(data))

    output = evil_build(
        forge, good_plugin, tmp_path / "evil.iso", replacing(path, new, mode), monkeypatch, prepare=prepare
    )
    refused(forge, output, "user-database", path)


@pytest.fixture(scope="module")
def library_plugin(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin with a library."""
    directory = tmp_path_factory.mktemp("library")
    (directory / "own.c").write_text("int own(void) { return 1; }\n")
    library = directory / "libown.so.1"
    subprocess.run(["gcc-12", "-shared", "-Wl,-soname,libown.so.1", "-o", library, directory / "own.c"], check=True)
    files: Dict[str, Any] = {"/usr/lib/x86_64-linux-gnu/libown.so.1": library.read_bytes(), "/usr/share/own/x": "x\n"}
    return forge.plugin("library", files=files)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("libtss2-esys.so.0", "/usr/lib/x86_64-linux-gnu/libown.so.1"),
        ("x", "/usr/share/own/x"),
        ("", ""),
    ],
    ids=["another name", "no library", "left out"],
)
def test_a_linker_cache_that_ldconfig_did_not_make(
    forge: Forge, library_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    new = tmp_path / "new"

    def prepare(image: Path) -> None:
        entries = list(ldcache.parse(dump(image, "/etc/ld.so.cache", new), "cache"))
        own = [entry for entry in entries if b"libown" in entry.name]
        assert len(own) == 1
        if name:
            entries.append(ldcache.CacheEntry(name.encode(), path.encode(), own[0].flags, 0))
        else:
            entries.remove(own[0])
        new.write_bytes(linker_cache(entries))

    commands = replacing("/etc/ld.so.cache", new, "0100644")
    output = evil_build(forge, library_plugin, tmp_path / "evil.iso", commands, monkeypatch, prepare=prepare)
    refused(forge, output, "undeclared-effect", "/etc/ld.so.cache")


def linker_cache(entries: List[ldcache.CacheEntry]) -> bytes:
    """A cache in the order in which the linker searches."""
    entries.sort(key=lambda entry: ldcache._key(entry.name), reverse=True)
    texts, table = b"", b""
    start = 48 + 24 * len(entries)
    for entry in entries:
        name, path = start + len(texts), start + len(texts) + len(entry.name) + 1
        texts += entry.name + b"\0" + entry.path + b"\0"
        table += struct.pack("<iIIIQ", entry.flags, name, path, entry.osversion, entry.hwcap)
    return struct.pack("<20sIIB19x", b"glibc-ld.so.cache1.1", len(entries), len(texts), 2) + table + texts
