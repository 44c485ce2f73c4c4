"""Signed plugins that try to change what the vendor's programs do without changing a vendor's file."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.test_refusals import refused
from tests.support.forge import Forge

# Each of these would be found before a file of the example Node, or act on programs of the vendor's.
FILES = (
    "/etc/profile.d/plugin.sh",
    "/etc/ssh/sshd_config.d/plugin.conf",
    "/etc/sudoers.d/plugin",
    "/etc/systemd/journald.conf.d/plugin.conf",
    "/etc/systemd/system.control/sysinit.target.wants/debug-shell.service",
    "/etc/systemd/system/default.target",
    "/etc/systemd/system/multi-user.target.d/plugin.conf",
    "/etc/systemd/system/systemd-udevd.service",
    "/etc/tmpfiles.d/systemd.conf",
    "/etc/udev/rules.d/60-persistent-storage.rules",
    "/usr/lib/dracut/modules.d/99plugin/module-setup.sh",
    "/usr/lib/python311.zip",
    "/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libnss_plugin.so.2",
)


def test_files_that_would_be_found_before_the_vendors(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("early", files={path: "mine\n" for path in FILES})
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 4, done.err
    error = done.json["error"]
    said = [error["where"], *error["also"]]
    assert [path for path in FILES if not any(one.startswith(path) for one in said)] == []
    assert not (tmp_path / "out.iso").exists()


def test_a_scriptlet_that_gives_its_own_file_capabilities(forge: Forge, tmp_path: Path) -> None:
    setcap = shutil.which("setcap", path="/usr/sbin:/sbin")
    if setcap is None:
        pytest.skip("there is no setcap on this machine")
    program = base64.encodebytes(Path(setcap).read_bytes()).decode()
    script = f"base64 -d > /tmp/setcap <<'END'\n{program}END\nchmod 755 /tmp/setcap\n"
    plugin = forge.plugin(
        "mighty", sections=f"%post\n{script}/tmp/setcap cap_sys_admin+ep /usr/share/mighty/data || exit 1\n"
    )
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "content", "/usr/share/mighty/data")


def test_a_user_whose_subordinate_ids_are_those_of_root(forge: Forge, tmp_path: Path) -> None:
    script = "useradd -r -M subordinate\necho 'subordinate:0:65536' >> /etc/subuid\n"
    effects = 'users = ["subordinate"]\ngroups = ["subordinate"]'
    plugin = forge.plugin("subordinate", sections=f"%pre\n{script}", effects=effects)
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "user-database", "/etc/subuid")


def test_a_linker_cache_that_a_scriptlet_wrote_is_made_anew(forge: Forge, tmp_path: Path) -> None:
    plugin = forge.plugin("cache", sections="%post\necho mine >> /etc/ld.so.cache\n")
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    assert done.json["counters"]["paths_changed"] == 1  # the RPM database


def test_a_library_of_a_plugin_gets_into_the_linker_cache(forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "own.c").write_text("int own(void) { return 1; }\n")
    library = tmp_path / "libown.so.1"
    command = ["gcc-12", "-shared", "-Wl,-soname,libown.so.1", "-o", library, tmp_path / "own.c"]
    subprocess.run(command, check=True)
    plugin = forge.plugin("library", files={"/usr/lib/x86_64-linux-gnu/libown.so.1": library.read_bytes()})
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    assert done.code == 0, done.err
    assert done.json["counters"]["paths_changed"] == 2  # the RPM database, the cache


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/usr/lib/systemd/system-preset/50-setter.preset", "disable node-config.service\n"),
        ("/etc/modprobe.d/setter.conf", "install ext4 /usr/libexec/setter\n"),
    ],
)
def test_settings_for_what_is_the_vendors(forge: Forge, tmp_path: Path, path: str, content: str) -> None:
    done = forge.build(tmp_path / "out.iso", forge.plugin("setter", files={path: content}), json=True)
    refused(done, tmp_path / "out.iso", 4, "foreign-setting", path)


def test_a_ghost_that_comes_alive_with_more_rights_than_its_package_says(forge: Forge, tmp_path: Path) -> None:
    shell = "/usr/libexec/haunted-shell"
    plugin = forge.plugin(
        "haunted",
        files={shell: "", "/usr/share/haunted/data": "some data\n"},
        directives={shell: "%ghost"},
        sections=f"%post\ncp /usr/bin/dash {shell}\nchmod 4755 {shell}\n",
    )
    done = forge.build(tmp_path / "out.iso", plugin, json=True)
    refused(done, tmp_path / "out.iso", 4, "content", shell)
