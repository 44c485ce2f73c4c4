"""The example Node, ready to start from a network: checked by cpio, xorriso, sha256sum; and what is refused."""

from __future__ import annotations

import filecmp
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support.forge import Done, Forge, respin
from tests.support.images import extracted, run

URL = "http://10.0.0.1/node"
COPIED = ("isolinux/vmlinuz0", "isolinux/initrd0.img")
WRITTEN = {*COPIED, "node.iso.cpio", "pxelinux.cfg/default", "grub.cfg", "boot.ipxe", "SHA256SUMS"}


def files(top: Path) -> Dict[str, Path]:
    return {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}


def pxe(iso: Path, output: Path, *options: object) -> Done:
    return respin("pxe", iso, "-o", output, "--name", "node.iso", "--json", *options)


def nothing_written(done: Done, code: int, finding: str, top: Path) -> None:
    assert (done.code, done.json["error"]["finding"]) == (code, finding), done.err
    assert list(top.iterdir()) == []


@pytest.fixture(scope="module")
def written(stock_iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pxe") / "node"
    done = pxe(stock_iso, output)
    assert done.code == 0, done.err
    document = done.json
    assert (document["schema"], document["profile"], document["mode"]) == ("respin.pxe/1", "example-node", "initrd")
    assert document["iso"] == {
        "name": str(stock_iso),
        "sha256": sha256(stock_iso),
        "verified": "not verified",
        "complete": False,
    }
    listed = {one["path"]: (one["size"], one["sha256"]) for one in document["files"]}
    assert listed == {
        name: (path.stat().st_size, sha256(path)) for name, path in files(output).items() if name != "SHA256SUMS"
    }
    return output


def test_everything_is_there_and_sha256sum_finds_it_right(written: Path) -> None:
    assert set(files(written)) == WRITTEN
    checked = run("sh", "-c", f"cd {written} && sha256sum --strict -c SHA256SUMS").decode()
    assert checked.count(": OK") == len(WRITTEN) - 1


@pytest.mark.parametrize("name", COPIED)
def test_kernel_and_initrd_are_what_xorriso_extracts(written: Path, stock_iso: Path, tmp_path: Path, name: str) -> None:
    assert filecmp.cmp(written / name, extracted(stock_iso, f"/{name}", tmp_path / "extracted"), shallow=False)


def test_the_archive_holds_the_iso_and_nothing_else(written: Path, stock_iso: Path, tmp_path: Path) -> None:
    archive = written / "node.iso.cpio"
    listed = run("sh", "-c", f"cpio -itv --quiet -n < {archive}").decode().splitlines()
    assert len(listed) == 1
    mode, links, owner, group, size = listed[0].split()[:5]
    assert (mode, links, owner, group, int(size)) == ("-rw-r--r--", "1", "0", "0", stock_iso.stat().st_size)
    run("sh", "-c", f"cd {tmp_path} && cpio -id --quiet < {archive}")
    assert [path.name for path in tmp_path.iterdir()] == ["node.iso"]
    assert filecmp.cmp(tmp_path / "node.iso", stock_iso, shallow=False)


def test_the_menus_have_the_isos_own_entries(written: Path, stock_iso: Path, tmp_path: Path) -> None:
    """By the lines of isolinux.cfg, read without respin."""
    menu = extracted(stock_iso, "/isolinux/isolinux.cfg", tmp_path / "isolinux.cfg").read_text()
    wanted: List[str] = []
    for line in menu.splitlines():
        if line.split()[:1] == ["append"]:
            words = [word for word in line.split()[2:] if not word.startswith("root=") and word != "rd.live.check"]
            wanted.append(" ".join(["root=live:/node.iso", *words]))
    unique = list(dict.fromkeys(wanted))
    assert len(unique) == 4
    pxelinux = (written / "pxelinux.cfg/default").read_text()
    assert [line.split(" ", 4)[4] for line in pxelinux.splitlines() if "append" in line] == unique
    ipxe = (written / "boot.ipxe").read_text()
    assert [line.split(" ", 4)[4] for line in ipxe.splitlines() if line.startswith("kernel")] == unique
    grub = (written / "grub.cfg").read_text()
    assert [line.split(None, 2)[2] for line in grub.splitlines() if line.strip().startswith("linux")] == unique
    run("grub-script-check", written / "grub.cfg")


def test_the_same_iso_gives_the_same_bytes_and_times(written: Path, stock_iso: Path, tmp_path: Path) -> None:
    shutil.copy(stock_iso, tmp_path / "copy.iso")
    assert pxe(tmp_path / "copy.iso", tmp_path / "again").code == 0
    first, second = files(written), files(tmp_path / "again")
    assert {name: (sha256(path), path.stat().st_mtime_ns) for name, path in first.items()} == {
        name: (sha256(path), path.stat().st_mtime_ns) for name, path in second.items()
    }


def test_a_respun_iso_is_verified_and_brings_its_arguments(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    done = pxe(respun.iso, tmp_path / "node", "--trust", forge.keys.trust, "--url", URL)
    assert done.code == 0, done.err
    assert done.json["iso"]["verified"] == "respun"
    assert done.json["iso"]["complete"] is True
    assert f"kernel {URL}/isolinux/vmlinuz0 " in (tmp_path / "node/boot.ipxe").read_text()


def test_of_a_stick_only_the_iso_is_taken(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    stick = tmp_path / "sdx"
    shutil.copy(respun.iso, stick)
    os.truncate(stick, stick.stat().st_size + (3 << 20))
    done = pxe(stick, tmp_path / "node", "--trust", forge.keys.trust)
    assert done.code == 0, done.err
    assert done.json["iso"]["sha256"] == sha256(respun.iso)
    run("sh", "-c", f"cd {tmp_path} && cpio -id --quiet < node/node.iso.cpio")
    assert filecmp.cmp(tmp_path / "node.iso", respun.iso, shallow=False)
    done = respin("pxe", stick, "-o", tmp_path / "other", "--json")
    assert (done.code, done.json["error"]["finding"]) == (2, "odd-name")


def test_a_changed_respun_iso_is_refused(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.iso", tmp_path / "out"
    out.mkdir()
    shutil.copy(respun.iso, bad)
    with bad.open("r+b") as file:
        file.seek(bad.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    done = pxe(bad, out / "node", "--trust", forge.keys.trust)
    assert done.code == 3, done.err
    assert list(out.iterdir()) == []


def test_a_vendors_iso_is_verified_by_its_checksum(forge: Forge, tmp_path: Path) -> None:
    done = pxe(forge.iso, tmp_path / "node", "--trust", forge.keys.trust, "--base-checksum", forge.checksum)
    assert done.code == 0, done.err
    assert done.json["iso"]["verified"] == "vendor-signed"
    done = pxe(forge.iso, tmp_path / "node", "--base-sha256", sha256(forge.iso), "--force")
    assert (done.code, done.json["iso"]["verified"]) == (0, "pinned")


def test_a_vendors_iso_for_which_nobody_vouches_is_refused(forge: Forge, tmp_path: Path) -> None:
    trust = ("--trust", forge.keys.trust)
    nothing_written(pxe(forge.iso, tmp_path / "node", *trust), 3, "not-respun", tmp_path)
    nothing_written(pxe(forge.iso, tmp_path / "node", "--base-sha256", "0" * 64), 3, "base-digest", tmp_path)
    other = forge.vendor_checksum("plugin")
    done = pxe(forge.iso, tmp_path / "node", *trust, "--base-checksum", other)
    assert done.code == 3, "a key that may not speak for Nodes"
    assert list(tmp_path.iterdir()) == []
    nothing_written(pxe(forge.iso, tmp_path / "node", "--base-checksum", forge.checksum), 2, "usage", tmp_path)


def test_a_way_that_this_initrd_cannot_go_is_refused(stock_iso: Path, tmp_path: Path) -> None:
    done = pxe(stock_iso, tmp_path / "node", "--mode", "http", "--url", URL)
    nothing_written(done, 7, "initrd-lacks", tmp_path)


def test_what_is_no_node_is_refused(tmp_path: Path) -> None:
    out, tree = tmp_path / "out", tmp_path / "tree"
    out.mkdir()
    tree.mkdir()
    (tree / "file").write_text("x")
    run("genisoimage", "-quiet", "-r", "-o", tmp_path / "other.iso", tree)
    nothing_written(pxe(tmp_path / "other.iso", out / "node"), 7, "profile", out)


def test_a_profile_of_the_trust_store_says_its_own_way(forge: Forge, tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    shutil.copytree(forge.keys.trust, trust)
    (trust / "profiles").mkdir(exist_ok=True)
    source = Path(__file__).resolve().parents[2] / "respin/node/profiles/example-node.toml"
    text = source.read_text().replace('id = "example-node"', 'id = "own"')
    text = text.replace('instead_of = ["dracut-live"]', 'instead_of = ["dracut-live", "example-node"]')
    table, _, rest = text.partition("[pxe]")
    own = '[pxe]\nmode = "nbd"\n[pxe.nbd]\niso = "file"\nremove = ["root"]\narguments = ["root=live:nbd:{iso}"]\n'
    (trust / "profiles/own.toml").write_text(table + own + rest[rest.index("\n[protected.installer]") :])
    check = ("--trust", trust, "--base-checksum", forge.checksum)
    done = pxe(forge.iso, tmp_path / "node", *check)
    assert done.code == 0, done.err
    assert (done.json["profile"], done.json["mode"]) == ("own", "nbd")
    assert done.json["entries"][0]["arguments"][0] == "root=live:nbd:node.iso"
    assert filecmp.cmp(tmp_path / "node/node.iso", forge.iso, shallow=False)
    # The same without its table
    (trust / "profiles/own.toml").write_text(table + rest[rest.index("\n[protected.installer]") :])
    out = tmp_path / "out"
    out.mkdir()
    nothing_written(pxe(forge.iso, out / "node", *check), 7, "no-pxe", out)


def test_an_output_that_exists_stays(written: Path, stock_iso: Path, tmp_path: Path) -> None:
    before = {name: path.stat().st_ino for name, path in files(written).items()}
    done = pxe(stock_iso, written)
    assert (done.code, done.json["error"]["finding"]) == (2, "usage")
    assert {name: path.stat().st_ino for name, path in files(written).items()} == before


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(stock_iso: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "respin", "pxe", str(stock_iso), "-o", str(tmp_path / "node")]
    limited = ["bash", "-c", 'ulimit -f 30000; exec "$@"', "-", *command]  # KiB; the kernel refuses what is more
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 6, done.stderr
    assert f"{tmp_path / 'node'}: cannot write the output" in done.stderr
    assert "no-space" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_ended_while_it_writes_leaves_nothing(
    stock_iso: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "respin", "pxe", str(stock_iso), "-o", str(tmp_path / "node"), "-q"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("respin-*/new/isolinux")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(number)
        code = process.wait(60)
    deadline = time.monotonic() + 20
    while list(tmp_path.glob("respin-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if code == 0:  # it was done before the signal came
        assert set(files(tmp_path / "node")) == WRITTEN
    else:
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert list(tmp_path.iterdir()) == []
