"""``respin diff``: what it says is what unsquashfs, debugfs, rpm and xorriso find; each attribute changed is told."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Set, Tuple

import pytest

from tests.end_to_end.conftest import GOOD_FILES, Respun, sha256
from tests.support.forge import Done, Forge, respin
from tests.support.images import debugfs, nested_image, run

SQUASHFS, INNER = "/LiveOS/squashfs.img", "LiveOS/ext3fs.img"


def diff(a: Path, b: Path, *options: str) -> Done:
    return respin("diff", a, b, *options)


def differences(document: Mapping[str, Any], section: str) -> Dict[str, Any]:
    found = document["sections"][section]
    by_name = {one["name"]: one for one in found["differences"]}
    counts = {change: sum(1 for one in by_name.values() if one["change"] == change) for change in ("added", "changed")}
    assert {name: found[name] for name in counts} == counts
    return by_name


@pytest.fixture(scope="module")
def stock_root(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nested_image(forge.iso, tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def document(forge: Forge, respun: Respun) -> Dict[str, Any]:
    done = diff(forge.iso, respun.iso, "--json")
    assert done.code == 1, done.err
    return done.json


def test_a_copy_is_the_same(forge: Forge, tmp_path: Path) -> None:
    copy = tmp_path / "copy.iso"
    shutil.copy(forge.iso, copy)
    done = diff(forge.iso, copy, "--json")
    assert (done.code, done.json["schema"], done.json["identical"]) == (0, "respin.diff/1", True)
    assert "no differences" in diff(forge.iso, copy).out


def test_packages_are_those_that_rpm_lists(
    forge: Forge, respun: Respun, document: Mapping[str, Any], stock_root: Path, tmp_path: Path
) -> None:
    listed = []
    for number, image in enumerate((stock_root, nested_image(respun.iso, tmp_path))):
        database = tmp_path / f"rpmdb{number}"
        database.mkdir()
        debugfs(image, f"dump /var/lib/rpm/rpmdb.sqlite {database}/rpmdb.sqlite")
        query = ["rpm", "--dbpath", str(database), "-qa", "--qf", "%{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\n"]
        listed.append(set(run(*query).decode().splitlines()))
    assert listed[1] - listed[0] == {"good.noarch 1.0-1"}
    assert not listed[0] - listed[1]
    found = differences(document, "packages")
    assert set(found) == {"good.noarch"}
    assert (found["good.noarch"]["new"]["version"], found["good.noarch"]["new"]["release"]) == ("1.0", "1")


def tree(image: Path, directory: Path) -> Dict[str, Tuple[object, ...]]:
    """Every path of a root as ``debugfs rdump`` writes it out: type and mode, time, size and digest, target."""
    directory.mkdir()
    debugfs(image, f"rdump / {directory}")
    found: Dict[str, Tuple[object, ...]] = {}
    for parent, folders, names in os.walk(directory):
        for name in folders + names:
            path = Path(parent) / name
            status = path.lstat()
            facts: List[object] = [status.st_mode]
            if stat.S_ISLNK(status.st_mode):
                facts.append(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                facts += [int(status.st_mtime), status.st_size, sha256(path)]
            if os.geteuid() == 0:
                facts += [status.st_uid, status.st_gid]
            found[f"/{path.relative_to(directory)}"] = tuple(facts)
    shutil.rmtree(directory)
    return found


def test_files_of_the_root_are_those_that_debugfs_writes_out(
    respun: Respun, document: Mapping[str, Any], stock_root: Path, tmp_path: Path
) -> None:
    old, new = tree(stock_root, tmp_path / "old"), tree(nested_image(respun.iso, tmp_path / "new"), tmp_path / "tree")
    expected = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    assert set(GOOD_FILES) <= expected
    found = differences(document, "files")
    # debugfs gives directories and links the time of its own writing; those are compared by what else they are.
    told: Set[str] = {
        path
        for path, one in found.items()
        if one.get("differs") != ["mtime"] or {one["old"]["kind"], one["new"]["kind"]} == {"file"}
    }
    assert told == expected
    for path, content in GOOD_FILES.items():
        assert found[path]["new"]["sha256"] == hashlib.sha256(content.encode()).hexdigest()


def test_files_of_the_iso_are_those_that_xorriso_lists(
    forge: Forge, respun: Respun, document: Mapping[str, Any]
) -> None:
    listed = []
    for iso in (forge.iso, respun.iso):
        said = run("xorriso", "-indev", iso, "-find", "/", "-type", "f", "-exec", "lsdl").decode()
        listed.append(_sizes(said))
    assert "/LiveOS/squashfs.img" in listed[0]
    expected = {path for path in {*listed[0], *listed[1]} if listed[0].get(path) != listed[1].get(path)}
    found = differences(document, "iso")
    assert {path for path, one in found.items() if one["change"] != "changed" or "size" in one["differs"]} == expected


def _sizes(said: str) -> Dict[str, int]:
    return {path: int(size) for size, path in re.findall(r"\s(\d+) \w+ +\d+ +[\d:]+ '(.+)'", said)}


def test_the_other_way_round_added_is_removed(forge: Forge, respun: Respun, document: Mapping[str, Any]) -> None:
    back = diff(respun.iso, forge.iso, "--json").json
    swap = {"added": "removed", "removed": "added", "changed": "changed"}
    for section in document["sections"]:
        forth = {(one["name"], swap[one["change"]]) for one in document["sections"][section]["differences"]}
        assert {(one["name"], one["change"]) for one in back["sections"][section]["differences"]} == forth
    assert back["a"]["plugins"] == ["good-1-1.noarch.plugin.tar"]
    assert back["b"]["plugins"] is None


ATTRIBUTES = {
    "mode": ("sif /etc/nsswitch.conf mode 0104755", "/etc/nsswitch.conf", {"mode"}),
    "owner": ("sif /etc/fstab uid 12", "/etc/fstab", {"uid"}),
    "group": ("sif /etc/shells gid 13", "/etc/shells", {"gid"}),
    "time": ("sif /etc/issue mtime @1600000009", "/etc/issue", {"mtime"}),
    "capability": ("ea_set /usr/bin/bash security.capability abcdefghijklmnopqrst", "/usr/bin/bash", {"xattrs"}),
    "target": ("unlink /etc/mtab\nsymlink /etc/mtab /elsewhere", "/etc/mtab", {"target"}),
    "flags": ("sif /etc/hostname flags 0x10", "/etc/hostname", {"flags"}),
    "content": ("rm /etc/motd\nwrite {source} /etc/motd", "/etc/motd", {"size", "sha256"}),
    "device": ("mknod /dev/one c 1 3", "/dev/one", None),
    "pipe": ("mknod /var/pipe p", "/var/pipe", None),
    "link": ("ln /etc/passwd /etc/passwd.twin\nsif /etc/passwd links_count 2", "/etc/passwd", {"hard_link"}),
    "twin": ("", "/etc/passwd.twin", None),
    "removed": ("rm /etc/profile", "/etc/profile", None),
    "module": ("write {source} /usr/lib/modules/{kernel}/new.ko", "/usr/lib/modules/{kernel}/new.ko", None),
}  # fmt: skip


@pytest.fixture(scope="module", params=["128K", "256K"])
def altered(
    request: pytest.FixtureRequest, forge: Forge, stock_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Dict[str, Any]:
    """A Node whose root debugfs changed, in blocks of the stock Node's size, and in others (then nothing is shared)."""
    work = tmp_path_factory.mktemp("altered")
    image = work / "squashfs-root" / INNER
    image.parent.mkdir(parents=True)
    shutil.copy(stock_root, image)
    (work / "source").write_bytes(b"new\n" * 1000)
    kernel = run("debugfs", "-R", "ls -p /usr/lib/modules", image).decode().split("/")[-3]
    words = {"source": work / "source", "kernel": kernel}
    commands = [command.format(**words) for command, _, _ in ATTRIBUTES.values()]
    # debugfs write takes names in the current directory only.
    lines = [line for command in commands for line in command.split("\n") if line]
    placed: List[str] = []
    for line in lines:
        name = re.fullmatch(r"(write \S+|mknod|symlink) (/\S*)/([^/ ]+)(.*)", line)
        placed += [f"cd {name[2]}", f"{name[1]} {name[3]}{name[4]}", "cd /"] if name else [line]
    debugfs(image, *placed)
    squashfs = work / "squashfs.img"
    options = ["-b", request.param, *(["-Xcompression-level", "1"] if request.param == "256K" else [])]
    run("mksquashfs", work / "squashfs-root", squashfs, "-noappend", "-quiet", "-no-progress", *options)
    iso = work / "altered.iso"
    run("xorriso", "-indev", forge.iso, "-outdev", iso, "-boot_image", "any", "replay", "-map", squashfs, SQUASHFS)
    done = diff(forge.iso, iso, "--json")
    assert done.code == 1, done.err
    document = done.json
    document["kernel"] = kernel
    return document


@pytest.mark.parametrize("what", ATTRIBUTES)
def test_every_attribute_of_the_root_is_told(altered: Mapping[str, Any], what: str) -> None:
    _, path, expected = ATTRIBUTES[what]
    one = differences(altered, "files")[path.format(kernel=altered["kernel"])]
    if expected is None:
        assert one["change"] == ("removed" if what == "removed" else "added")
    else:
        assert expected <= set(one["differs"]), one
        assert what == "content" or set(one["differs"]) <= {*expected, "mtime"}


def test_what_stands_there_is_told(altered: Mapping[str, Any]) -> None:
    files = differences(altered, "files")
    assert files["/dev/one"]["new"]["device"] == [1, 3]
    assert files["/var/pipe"]["new"]["kind"] == "fifo"
    assert files["/etc/nsswitch.conf"]["new"]["mode"] == 0o4755
    assert files["/etc/passwd.twin"]["new"]["hard_link"] == {"first": "/etc/passwd", "names": 2}
    module = f"/usr/lib/modules/{altered['kernel']}/new.ko"
    assert set(differences(altered, "modules")) == {module}
    assert differences(altered, "modules")[module]["new"]["kernel"] == altered["kernel"]


def test_nothing_else_is_told(altered: Mapping[str, Any]) -> None:
    """Directories in which names were made or removed may have other times; nothing else may be listed."""
    paths = {path.format(kernel=altered["kernel"]) for _, path, _ in ATTRIBUTES.values()}
    for path, one in differences(altered, "files").items():
        assert path in paths or (one["change"] == "changed" and one["differs"] == ["mtime"]), one
    assert differences(altered, "packages") == {}


def test_people_read_a_short_list(forge: Forge, respun: Respun) -> None:
    short = diff(forge.iso, respun.iso, "-q")
    assert short.err == ""
    assert "packages: 1 added\n  + good.noarch  1.0-1\n" in short.out
    assert "--all shows all of it" in short.out
    long = diff(forge.iso, respun.iso, "-q", "--all").out
    assert len(long.splitlines()) > len(short.out.splitlines())
    for path in GOOD_FILES:
        assert path in long


def test_an_iso_of_another_layout_is_compared_as_far_as_it_goes(forge: Forge, tmp_path: Path) -> None:
    other = tmp_path / "tree"
    other.mkdir()
    (other / "file").write_text("x")
    iso = tmp_path / "other.iso"
    run("xorrisofs", "-quiet", "-R", "-o", iso, other)
    found = diff(forge.iso, iso, "--json")
    assert found.code == 1
    assert "no root image" in found.json["sections"]["files"]["not_compared"]
    assert differences(found.json, "iso")["/file"]["change"] == "added"


def test_what_is_no_iso_or_a_damaged_one_is_refused(forge: Forge, tmp_path: Path) -> None:
    text, damaged = tmp_path / "text.iso", tmp_path / "damaged.iso"
    text.write_bytes(bytes(100_000))
    assert diff(forge.iso, text).code == 7
    assert diff(text, forge.iso).code == 7
    assert diff(forge.iso, tmp_path / "none.iso").code == 2
    shutil.copy(forge.iso, damaged)
    os.truncate(damaged, forge.iso.stat().st_size // 2)
    done = diff(forge.iso, damaged, "--json")
    assert (done.code, done.json["schema"]) == (3, "respin.error/1")


def test_it_leaves_nothing_behind(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    assert diff(forge.iso, respun.iso, "--tmpdir", str(tmp_path)).code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_byte_in_no_mans_land_is_told(forge: Forge, tmp_path: Path) -> None:
    """Two ISOs are never called the same when a byte differs, even where nothing is known to lie."""
    copy = tmp_path / "copy.iso"
    shutil.copy(forge.iso, copy)
    spot = 15 * 2048 + 100  # the end of the system area
    with copy.open("r+b") as file:
        file.seek(spot)
        assert subprocess.run(["cmp", "-s", forge.iso, copy]).returncode == 0
        file.write(b"\xff")
    done = diff(forge.iso, copy, "--json")
    assert done.code == 1
    told = [one["name"] for section in done.json["sections"].values() for one in section["differences"]]
    assert len(told) == 1
    assert str(spot) in told[0]
