"""What lies around a command: inputs that can't be read, outputs that can't be written, closed pipes, two at once."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.attacker import Forgery
from tests.support.faults import Stage
from tests.support.forge import Done, Forge
from tests.support.roots import unprivileged

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, or mount")
B = 2048


def run(*arguments: object, **options: Any) -> Done:
    """``respin`` with whatever the test does to the process."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, "cwd": CHECKOUT, **options}
    command = [sys.executable, "-m", "respin", *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, timeout=120, check=False, **options)
    said = done.stderr or ""
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    return Done(done.returncode, done.stdout or "", said)


# --- standard output and error ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_result_that_cannot_be_written_is_a_failure(respun: Respun, tmp_path: Path, options: List[str]) -> None:
    output = tmp_path / "bom.json"
    with open("/dev/full", "w") as full:
        done = run("sbom", respun.iso, "-o", output, *options, stdout=full)
    assert done.code == 6
    assert done.err.count("error: ") == 1
    assert "standard output" in done.err
    assert json.loads(output.read_text())["bomFormat"] == "CycloneDX", "what was asked for is there, and whole"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_error_whose_document_cannot_be_written_keeps_its_status(tmp_path: Path, options: List[str]) -> None:
    with open("/dev/full", "w") as full:
        done = run("inspect", tmp_path / "nothing.iso", *options, stdout=full)
    assert done.code == 2
    assert "nothing.iso" in done.err


@pytest.mark.parametrize(
    "arguments", [["inspect", "ISO", "--files"], ["inspect", "ISO", "--cat", "/etc/passwd"], ["--help"]]
)
def test_what_is_written_piece_by_piece_has_to_arrive_too(respun: Respun, arguments: List[str]) -> None:
    command = [str(respun.iso) if one == "ISO" else one for one in arguments]
    with open("/dev/full", "w") as full:
        done = run(*command, stdout=full)
    assert done.code == 6
    assert "error: standard output: the result cannot be written" in done.err
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(*command, stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (6, "")


@pytest.mark.parametrize("arguments", [[], ["bundle"], ["keys"]])
def test_a_group_without_a_command_shows_its_help(arguments: List[str]) -> None:
    done = run(*arguments)
    shown = done.out + done.err
    assert shown.startswith("Usage: respin")
    assert "Commands:" in shown
    assert "error" not in shown


@pytest.mark.parametrize("arguments", [["inspect"], ["inspect", "--json"], ["verify"]])
def test_a_reader_who_goes_away(forge: Forge, respun: Respun, arguments: List[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    trust = ["--trust", forge.keys.trust] if arguments[0] == "verify" else []
    try:
        done = run(arguments[0], respun.iso, *arguments[1:], *trust, "-q", stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (6, ""), "as quiet as everybody else in a pipe, and no success"


def test_messages_that_nobody_reads_stop_nothing(forge: Forge, respun: Respun) -> None:
    with open("/dev/full", "w") as full:
        done = run("verify", respun.iso, "--trust", forge.keys.trust, "--json", stderr=full)
    assert done.code == 0
    assert done.json["complete"] is True


def test_closed_descriptors(respun: Respun, tmp_path: Path) -> None:
    """The ISO must not become descriptor 1 or 2, where a message would go into it."""
    output = tmp_path / "stock.iso"
    command = [sys.executable, "-m", "respin", "restore", str(respun.iso), "-o", str(output)]
    before = sha256(respun.iso)
    for closing in ("<&- >&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closing}', "sh", *command, "--force"], env=ENVIRONMENT, cwd=CHECKOUT, timeout=120
        )
        assert done.returncode == 0
        assert sha256(respun.iso) == before
    assert run("restore", respun.iso, "-o", tmp_path / "again.iso", "-q").code == 0
    assert sha256(output) == sha256(tmp_path / "again.iso")


# --- inputs and outputs that are something else -----------------------------------------------------------------------


def odd(kind: str, path: Path) -> Path:
    """Something at ``path`` that is no file."""
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/null")
    return path


def base_line(forge: Forge, respun: Respun, plugin: Path, place: str, path: Path) -> List[object]:
    """A command line in which ``path`` stands at ``place``."""
    trust = ["--trust", forge.keys.trust]
    out = path.parent / "out"
    build = ["--base", forge.iso, "--base-checksum", forge.checksum, "--plugin", plugin, "--unsigned", "-o", out]
    lines: Dict[str, List[object]] = {
        "base": ["build", *(path if one is forge.iso else one for one in build), *trust],
        "checksum": ["build", *(path if one is forge.checksum else one for one in build), *trust],
        "plugin": ["build", *(path if one is plugin else one for one in build), *trust],
        "trust": ["verify", respun.iso, "--trust", path],
        "verify": ["verify", path, *trust],
        "verify base": ["verify", respun.iso, "--base", path, *trust],
        "restore": ["restore", path, "-o", out],
        "sign": ["sign", path, "--key", forge.keys.fingerprints["respin"], "--gnupg-home", forge.keys.gnupg_home],
        "sbom": ["sbom", path, "-o", out],
        "inspect": ["inspect", path],
        "create": ["bundle", "create", path, "-o", path.parent],
        "show": ["bundle", "show", path],
        "rpm": ["keys", "verify", path, "--keys", forge.keys.trust],
        "keys": ["keys", "verify", plugin, "--keys", path],
        "add": ["keys", "add", path, "--trust", path.parent / "store", "--role", "rpm"],
    }
    return lines[place]


PLACES = (
    "base", "checksum", "plugin", "trust", "verify", "verify base", "restore", "sign", "sbom", "inspect", "create",
    "show", "rpm", "keys", "add",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_an_input_that_is_no_file(forge: Forge, respun: Respun, good_plugin: Path, tmp_path: Path, place: str) -> None:
    """One process for all kinds would be faster; a FIFO that is waited for must not stop the others."""
    for kind in ("fifo", "loop", "device", *(["directory"] if place not in ("plugin", "show", "keys") else [])):
        path = odd(kind, tmp_path / f"{kind}.iso")
        done = run(*base_line(forge, respun, good_plugin, place, path), "-q")
        assert done.code in (2, 3), f"{kind}: {done.code} {done.err}"
        assert path.name in done.err, f"{kind}: {done.err}"
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "store").exists()


@needs_root
def test_files_that_an_ordinary_user_may_not_read_or_write(respun: Respun) -> None:
    place = Path(tempfile.mkdtemp(prefix="respin-test-"))
    tmp, closed = place / "tmp", place / "closed"
    numbers = itertools.count()

    def run_as_user(*arguments: object) -> Done:
        command = [sys.executable, "-m", "respin", *map(str, arguments), "--json", "--tmpdir", str(tmp)]
        outer = unprivileged(command, uid=64321, directory=place / f"namespace{next(numbers)}")
        env = {**ENVIRONMENT, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(outer, env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False)
        if "ModuleNotFoundError" in done.stderr:
            pytest.skip("this Python's libraries are closed to other users")
        assert "Traceback" not in done.stderr, done.stderr
        assert list(tmp.iterdir()) == []
        return Done(done.returncode, done.stdout, done.stderr)

    try:
        place.chmod(0o755)
        tmp.mkdir()
        os.chown(tmp, 64321, 64321)
        closed.mkdir(mode=0o755)
        iso = Path(shutil.copy(respun.iso, place / "x.iso"))
        iso.chmod(0)
        done = run_as_user("restore", iso, "-o", tmp / "stock.iso")
        assert (done.code, done.json["error"]["exit_code"]) == (2, 2), done.err
        assert str(iso) in done.err
        assert "not readable" in done.err
        iso.chmod(0o644)
        done = run_as_user("restore", iso, "-o", closed / "stock.iso")
        assert done.code == 6, done.err
        assert done.json["error"]["finding"] == "cannot-write"
        assert str(closed / "stock.iso") in done.err
        assert list(closed.iterdir()) == []
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["directory", "dangling", "missing directory", "file below a file", "too long"])
def test_an_output_that_cannot_be(respun: Respun, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("precious")
    output = {
        "directory": tmp_path,
        "dangling": tmp_path / "link",
        "missing directory": tmp_path / "none" / "stock.iso",
        "file below a file": tmp_path / "file" / "stock.iso",
        "too long": tmp_path / ("x" * 300),
    }[kind]
    (tmp_path / "link").symlink_to("nowhere")
    for command in (["restore", respun.iso], ["sbom", respun.iso]):
        done = run(*command, "-o", output, "-q")
        assert done.code == 2, done.err
        assert str(output.parent if kind in ("missing directory", "file below a file") else output) in done.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_forced_output_replaces_a_link_and_not_what_it_points_to(respun: Respun, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to("precious")
    assert run("sbom", respun.iso, "-o", tmp_path / "link", "--force").code == 0
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_temporary_directories_that_do_not_work(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("/proc", "/nonexistent", str(tmp_path / "file")):
        done = run("verify", respun.iso, "--trust", forge.keys.trust, "--tmpdir", place, "--json")
        assert done.code == 6, done.err
        assert done.json["error"]["finding"] == "temporary-space"
        assert place in done.err
        assert "--tmpdir" in done.err


@needs_root
def test_temp_and_output_on_file_systems_of_their_own(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    """Without room to spare, without programs, without the right to have devices: and nothing else is used."""
    stage = Stage(tmp_path / "stage")
    line = ["build", "--base", forge.iso, "--base-checksum", forge.checksum, "--trust", forge.keys.trust, "--unsigned"]
    ended = stage.run(
        *line, "--plugin", good_plugin, "-o", stage.out / "out.iso", mounts={stage.tmp: 24 << 20, stage.out: 96 << 20}
    )
    assert ended.code == 0, ended.err
    assert sorted(ended.left["out"]) == ["out.iso", "out.iso.added.cdx.json"]
    assert (ended.left["tmp"], ended.left["other"], ended.survivors) == ({}, {}, [])


# --- two at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_two_builds_to_one_output(forge: Forge, good_plugin: Path, tmp_path: Path, force: bool) -> None:
    """One of them wins with all its files. A signed and an unsigned one, so that nothing of the loser's would fit."""
    keys, output = forge.keys, tmp_path / "out.iso"
    line = [sys.executable, "-m", "respin", "build", "--base", forge.iso, "--base-checksum", forge.checksum]
    line += ["--trust", keys.trust, "--plugin", good_plugin, "-o", output, *["--force"] * force]
    signed = ["--sign-key", keys.fingerprints["respin"], "--gnupg-home", keys.gnupg_home]
    processes = [
        subprocess.Popen([str(part) for part in [*line, *more]], env=ENVIRONMENT, cwd=CHECKOUT, stderr=subprocess.PIPE)
        for more in (signed, ["--unsigned"])
    ]
    said = [process.communicate(timeout=300)[1].decode() for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes == ([0, 0] if force else [0, 2]), said
    left = sorted(path.name for path in tmp_path.iterdir())
    both = ["out.iso", "out.iso.CHECKSUM", "out.iso.added.cdx.json", "out.iso.intoto.jsonl"]
    if "out.iso.CHECKSUM" in left:
        assert left == both
        assert f"= {sha256(output)}\n" in (tmp_path / "out.iso.CHECKSUM").read_text()
        assert forge.verify(output, base=None).code == 0
    else:
        assert left == ["out.iso", "out.iso.added.cdx.json"]
        assert forge.verify(output, base=None).json["error"]["finding"] == "unsigned"


# --- claims -----------------------------------------------------------------------------------------------------------


def modest(*arguments: object) -> Done:
    """``respin`` with 1.5 GiB of address space and 30 seconds."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))

    started = time.monotonic()
    done = run(*arguments, "--json", "-q", preexec_fn=limit)
    assert time.monotonic() - started < 60
    return done


def patched(source: Path, target: Path, *changes: "tuple[int, bytes]") -> Path:
    """A copy with some bytes overwritten."""
    shutil.copy(source, target)
    with target.open("r+b") as file:
        for offset, data in changes:
            file.seek(offset)
            file.write(data)
    return target


def both(value: int) -> bytes:
    """A number in both byte orders (ECMA-119, 7.3.3)."""
    return struct.pack("<I", value) + struct.pack(">I", value)


def test_an_iso_that_claims_to_be_huge(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    data = respun.iso.read_bytes()
    pvd = 16 * B
    records = {r.path: r for r in rawiso.records(data, False)}
    squashfs = records["/LiveOS/squashfs.img"].extent * B
    claims: Dict[str, Sequence["tuple[int, bytes]"]] = {
        "volume": [(pvd + 80, both(0xFFFFFFFF))],
        "path table": [(pvd + 132, both(0xFFFFFFFF))],
        "root directory": [(pvd + 156 + 10, both(0xFFFFF800))],
        "root directory's place": [(pvd + 156 + 2, both(0xFFFFFFFF))],
        "statement": [(records["/respin.json"].offset + 10, both(0xFFFFFFFF))],
        "restore map": [(records["/respin.restore"].offset + 10, both(0xFFFFFFFF))],
        "squashfs inodes": [(squashfs + 4, struct.pack("<I", 0xFFFFFFFF))],
        "squashfs block": [(squashfs + 12, struct.pack("<I", 1 << 31)), (squashfs + 22, struct.pack("<H", 31))],
        "squashfs fragments": [(squashfs + 16, struct.pack("<I", 0xFFFFFFFF))],
        "squashfs ids": [(squashfs + 26, struct.pack("<H", 0xFFFF))],
        "squashfs size": [(squashfs + 40, struct.pack("<Q", 1 << 60))],
        "squashfs id table": [(squashfs + 48, struct.pack("<Q", 1 << 60))],
        "squashfs inode table": [(squashfs + 64, struct.pack("<Q", 1 << 60))],
        "squashfs directory table": [(squashfs + 72, struct.pack("<Q", 1 << 60))],
    }
    for name, changes in claims.items():
        iso = patched(respun.iso, tmp_path / "claims.iso", *changes)
        for command in (["inspect", iso], ["verify", iso, "--trust", forge.keys.trust]):
            done = modest(*command)
            # `inspect` does not read all that there is: then it may well find nothing wrong
            assert done.code in ((3, 7) if command[0] == "verify" else (0, 3, 7)), f"{name}: {done.code} {done.err}"
            assert command[0] == "inspect" or "claims.iso" in done.err, f"{name}: {done.err}"


@pytest.mark.parametrize("field", ["size", "originals", "packed", "copies", "crc32"])
def test_a_restore_map_that_claims_to_be_huge(forge: Forge, respun: Respun, tmp_path: Path, field: str) -> None:
    forgery = Forgery(respun.iso, tmp_path / "claims.iso", forge.keys)
    line, _, rest = forgery.read("/respin.restore").partition(b"\n")
    document = json.loads(line)
    if field == "copies":
        document["copies"] = [0, 0, 1 << 60]
    elif field == "crc32":
        document["crc32"] = ""
        document["size"] = 1 << 60
    else:
        document[field] = 1 << 60
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    forgery.write("/respin.restore", (text + b"\n" + rest)[: forgery.place("/respin.restore")[1]])
    forgery.path.write_bytes(forgery.data)
    done = modest("restore", forgery.path, "-o", tmp_path / "stock.iso")
    assert done.code == 3, done.err
    assert "respin.restore" in done.err
    assert not (tmp_path / "stock.iso").exists()


def test_packages_and_bundles_that_claim_to_be_huge(forge: Forge, good_plugin: Path, tmp_path: Path) -> None:
    rpm = forge.rpm("huge")
    data = rpm.read_bytes()
    headers = [data.index(b"\x8e\xad\xe8\x01"), data.index(b"\x8e\xad\xe8\x01", 200)]
    for at in headers:
        for offset, claim in ((8, 0xFFFFFFFF), (12, 0xFFFFFFFF), (8, 0x0FFFFFFF), (12, 0x7FFFFFFF)):
            broken = patched(rpm, tmp_path / "claims.rpm", (at + offset, struct.pack(">I", claim)))
            done = modest("keys", "verify", broken, "--keys", forge.keys.trust)
            assert done.code == 3, done.err
    tar = bytearray(good_plugin.read_bytes())
    for size in (b"\x80\0\0\0" + struct.pack(">Q", 1 << 60), b"77777777777\0"):
        tar[124:136] = size
        tar[148:156] = b" " * 8
        tar[148:156] = b"%06o\0 " % sum(tar[:512])
        bundle = tmp_path / "claims.plugin.tar"
        bundle.write_bytes(tar)
        done = modest("bundle", "show", bundle)
        assert done.code == 3, done.err
        assert "claims.plugin.tar" in done.err
