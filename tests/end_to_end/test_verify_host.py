"""An installed Node: its root as it was installed is consistent, and with one thing changed it is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.end_to_end.conftest import Respun
from tests.support.forge import Done, Forge, respin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners of an installed root can only be set by root")
DATA = "usr/share/good/data"
FACTS = "usr/share/respin/facts.json"


class Changer:
    """Changes a root, and takes it back at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._undo: List[Callable[[], object]] = []

    def keep(self, name: str) -> Path:
        """A path of the root that will be as it was."""
        path, kept = self.root / name, self.root.parent / f"kept{len(self._undo)}"
        if path.is_symlink() or path.exists():
            subprocess.run(["cp", "-a", path, kept], check=True)
            self._undo.append(lambda: subprocess.run(["mv", "-T", kept, path], check=True))
        self._undo.append(lambda: subprocess.run(["rm", "-rf", path], check=True))
        return path

    def take_back(self) -> None:
        """Undo everything, the last change first."""
        for undo in reversed(self._undo):
            undo()


@pytest.fixture
def changer(installed: Path) -> Iterator[Changer]:
    """Changes that last for one test."""
    changer = Changer(installed)
    yield changer
    changer.take_back()


def host(root: Path, *options: object) -> Done:
    return respin("verify", "--host", root, "--json", *options)


def paths(document: Dict[str, Any]) -> List[str]:
    return [one["path"] for one in document["drift"]]


def test_an_installed_node_is_consistent(installed: Path, respun: Respun) -> None:
    done = host(installed)
    assert done.code == 0, done.out
    document = done.json
    assert (document["schema"], document["verdict"], document["drift"]) == ("respin.verify-host/1", "CONSISTENT", [])
    assert document["product"] == document["base"]["product"] != ""
    assert [plugin["name"] for plugin in document["plugins"]] == ["good"]
    assert document["plugins"][0]["packages"][0]["sha256"] == respun.document["verification"]["packages"][0]["sha256"]
    assert document["checked"]["files"] >= 3
    assert "unsigned" in document["proves"]
    said = respin("verify", "--host", installed).out
    assert "CONSISTENT" in said
    assert "not proven" in said


def test_with_the_iso_every_path_is_compared(forge: Forge, installed: Path, respun: Respun) -> None:
    done = host(installed, "--iso", respun.iso, "--trust", forge.keys.trust)
    assert done.code == 0, done.out[:2000]
    assert done.json["checked"]["paths"] > 1000
    assert done.json["iso"]["complete"] is True
    assert "verified ISO" in done.json["proves"]


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def _same_size(path: Path) -> None:
    times = path.stat()
    path.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = [
    pytest.param(_append, "bytes instead of", id="longer"),
    pytest.param(_same_size, "other content", id="content"),
    pytest.param(lambda path: path.chmod(0o4755), "mode 4755", id="mode"),
    pytest.param(lambda path: os.chown(path, 990, -1), "uid 990", id="owner"),
    pytest.param(lambda path: os.chown(path, -1, 990), "gid 990", id="group"),
    pytest.param(lambda path: os.utime(path, (1, 1)), "time 1 ", id="time"),
    pytest.param(lambda path: path.unlink(), "it is missing", id="missing"),
    pytest.param(lambda path: os.setxattr(path, "security.capability", CAPABILITY), "security.capability", id="caps"),
    pytest.param(lambda path: (path.unlink(), path.mkdir()), "it is a directory", id="kind"),
    pytest.param(lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "it is a symlink", id="link"),
    pytest.param(lambda path: (path.unlink(), os.mkfifo(path)), "it is a fifo", id="pipe"),
]
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.mark.parametrize(("change", "what"), CHANGES)
def test_one_thing_changed_is_drift(changer: Changer, change: Callable[[Path], object], what: str) -> None:
    change(changer.keep(DATA))
    done = host(changer.root)
    assert done.code == 3, done.out
    assert done.json["verdict"] == "DRIFT"
    assert paths(done.json) == [f"/{DATA}"]
    assert what in done.json["drift"][0]["what"]
    assert done.json["drift"][0]["package"] == "good-1.0-1.noarch"
    assert f"/{DATA}: " in respin("verify", "--host", changer.root).out


def test_a_package_taken_out_of_the_database(changer: Changer) -> None:
    database = changer.keep("var/lib/rpm/rpmdb.sqlite")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM Packages WHERE hnum IN (SELECT max(hnum) FROM Packages)")
        connection.commit()
    for left in ("-wal", "-shm"):
        Path(f"{database}{left}").unlink(missing_ok=True)
    done = host(changer.root)
    assert done.code == 3
    assert [(one["package"], one["what"]) for one in done.json["drift"]] == [
        ("good-1.0-1.noarch", "it is not in the RPM database")
    ]


def test_another_package_of_the_same_name(changer: Changer, forge: Forge, tmp_path: Path) -> None:
    """Installed by rpm over the plugin's: everything agrees with rpm's database, nothing with the facts."""
    rpm = forge.rpm("good", files={f"/{DATA}": "other\n"})
    database = changer.keep("var/lib/rpm")
    command = ["rpm", "--dbpath", str(database), "--justdb", "--nodeps", "--ignoreos", "--nosignature", "--replacepkgs"]
    subprocess.run([*command, "-U", "--force", str(rpm)], check=True, capture_output=True)
    done = host(changer.root)
    assert done.code == 3
    assert "its record in the RPM database has another header" in [one["what"] for one in done.json["drift"]]


def test_another_product(changer: Changer) -> None:
    path = changer.keep("etc/default/version")
    path.write_text(path.read_text().replace("VERSION=1.0", "VERSION=0.9"))
    done = host(changer.root)
    assert (done.code, paths(done.json)) == (3, ["/etc/default/version"])


def test_what_no_package_of_a_plugin_owns_is_seen_with_the_iso(forge: Forge, respun: Respun, changer: Changer) -> None:
    changer.keep("usr/sbin/persist").chmod(0o4755)
    changer.keep("usr/share/good/more").write_text("more\n")
    changer.keep("etc/new.conf").write_text("made while it runs\n")
    changer.keep("usr/sbin/unpersist").unlink()
    assert host(changer.root).code == 0
    done = host(changer.root, "--iso", respun.iso, "--trust", forge.keys.trust)
    assert done.code == 3
    assert sorted(paths(done.json)) == ["/usr/sbin/persist", "/usr/sbin/unpersist", "/usr/share/good/more"]


def test_facts_of_another_iso(forge: Forge, changer: Changer, respun: Respun) -> None:
    path = changer.keep(FACTS)
    path.write_text(path.read_text().replace('"respin": "', '"respin": "9.'))
    assert host(changer.root).code == 0
    done = host(changer.root, "--iso", respun.iso, "--trust", forge.keys.trust)
    assert (done.code, paths(done.json)) == (3, [f"/{FACTS}"])


def test_an_iso_that_does_not_verify_proves_nothing(
    forge: Forge, installed: Path, respun: Respun, tmp_path: Path
) -> None:
    store = forge.keys.make_store(tmp_path / "trust", {"base": ["base"], "respin": ["plugin"]})
    done = host(installed, "--iso", respun.iso, "--trust", store)
    assert (done.code, done.json["error"]["finding"]) == (3, "nokey")


@pytest.mark.parametrize("directory", ["usr/share/good", "usr/share"])
def test_links_never_lead_out_of_the_root(changer: Changer, tmp_path: Path, directory: str) -> None:
    """A directory that is a link outside would show the right files; they are not the root's."""
    path = changer.keep(directory)
    outside = tmp_path / "outside"
    subprocess.run(["cp", "-a", path, outside], check=True)
    shutil.rmtree(path)
    path.symlink_to(outside)
    done = host(changer.root)
    if directory == "usr/share/good":
        assert (done.code, "it is missing" in done.json["drift"][0]["what"]) == (3, True)
    else:
        assert (done.code, done.json["error"]["finding"]) == (7, "no-facts")


def test_a_link_inside_of_the_root_is_followed_there(forge: Forge, respun: Respun, changer: Changer) -> None:
    """An absolute link means the root's path, not this machine's. That the directory is one now, the ISO tells."""
    path = changer.keep("usr/share/good")
    moved = changer.keep("srv/good")
    subprocess.run(["mv", path, moved], check=True)
    path.symlink_to("/srv/good")
    assert host(changer.root).code == 0
    done = host(changer.root, "--iso", respun.iso, "--trust", forge.keys.trust)
    assert done.code == 3
    drift = {one["path"]: one["what"] for one in done.json["drift"]}
    assert drift["/usr/share/good"] == "it is a symlink, not a directory"


@pytest.mark.parametrize("content", ["", "{}", "not JSON", '{"schema": "respin.facts/9"}', "[" * 100_000])
def test_broken_facts(changer: Changer, content: str) -> None:
    changer.keep(FACTS).write_text(content)
    assert host(changer.root).code == 3


def test_what_is_no_respun_node(tmp_path: Path) -> None:
    done = host(tmp_path)
    assert (done.code, done.json["error"]["finding"]) == (7, "no-facts")
    assert host(tmp_path / "nothing").code == 2


def test_usage(respun: Respun, tmp_path: Path) -> None:
    assert respin("verify").code == 2
    assert respin("verify", "--iso", respun.iso).code == 2
    assert respin("verify", respun.iso, "--host", tmp_path).code == 2
    assert respin("verify", "--host", tmp_path, "--vsa", tmp_path / "x").code == 2
