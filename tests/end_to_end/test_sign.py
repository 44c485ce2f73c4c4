"""Signing later and elsewhere: only the slot and the sidecars change, and every signature is judged."""

from __future__ import annotations

import base64
import fcntl
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.forge import Done, Forge, respin

B = 2048
SECTOR = 512


@pytest.fixture
def iso(respun: Respun, tmp_path: Path) -> Path:
    """A copy of the respun ISO with what stands beside it."""
    file = tmp_path / "out.iso"
    shutil.copy(respun.iso, file)
    return file


@pytest.fixture(scope="module")
def trust(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trust store with two keys of role respin."""
    store = tmp_path_factory.mktemp("two") / "trust"
    roles = {"base": ["base"], "plugin": ["plugin"], "rpm": ["rpm"], "respin": ["respin"], "unknown": ["respin"]}
    return forge.keys.make_store(store, roles)


def slot(iso: Path) -> Any:
    """Byte offset and size of the slot, by a reader that is not respin's."""
    record = next(r for r in rawiso.records(iso.read_bytes(), False) if r.path == "/respin.sig")
    return record.extent * B, record.size


def put(iso: Path, signatures: List[Dict[str, str]]) -> None:
    """Fill the slot by hand; none leaves it empty, as in an unsigned build."""
    offset, size = slot(iso)
    document = {"payloadType": "application/vnd.in-toto+json", "signatures": signatures}
    line = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n" if signatures else b""
    with iso.open("r+b") as file:
        file.seek(offset)
        file.write(line.ljust(size, b"\0"))


def signatures(iso: Path) -> List[Dict[str, str]]:
    line = rawiso.content(iso.read_bytes(), "/respin.sig").partition(b"\n")[0]
    found: List[Dict[str, str]] = json.loads(line)["signatures"]
    return found


def pae(statement: bytes) -> bytes:
    return b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(statement), statement)


def gpgv(forge: Forge, key: str, tmp_path: Path, *files: Path) -> None:
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(forge.keys.gpg("--export", forge.keys.fingerprints[key]))
    forge.keys.run(["gpgv", "--keyring", str(ring), *map(str, files)])


def sign(forge: Forge, iso: Path, key: str, *more: object) -> Done:
    where = [] if "--signer" in more else ["--gnupg-home", forge.keys.gnupg_home]
    return respin("sign", iso, "--key", forge.keys.fingerprints[key], *where, *more, "--json")


def command(forge: Forge, key: str) -> str:
    home = shlex.quote(str(forge.keys.gnupg_home))
    return f"gpg --homedir {home} --batch --quiet --local-user {forge.keys.fingerprints[key]} --armor --detach-sign"


def test_an_unsigned_build_is_signed_later(forge: Forge, respun: Respun, iso: Path, tmp_path: Path) -> None:
    put(iso, [])
    assert forge.verify(iso, base=None).json["error"]["finding"] == "unsigned"
    done = sign(forge, iso, "respin")
    assert done.code == 0, done.err
    assert done.json["checked"] is True
    assert forge.verify(iso, base=None).code == 0
    offset, size = slot(iso)
    before, after = respun.iso.read_bytes(), iso.read_bytes()
    assert before[:offset] + before[offset + size :] == after[:offset] + after[offset + size :]
    assert done.json["sha256"] == sha256(iso)
    check = subprocess.run(["sha256sum", "-c", "out.iso.CHECKSUM"], cwd=tmp_path, capture_output=True)
    assert check.returncode == 0, check.stderr
    gpgv(forge, "respin", tmp_path, tmp_path / "out.iso.CHECKSUM")
    envelope = json.loads((tmp_path / "out.iso.intoto.jsonl").read_bytes())
    statement = base64.b64decode(envelope["payload"])
    assert json.loads(statement)["subject"] == [{"name": "out.iso", "digest": {"sha256": sha256(iso)}}]
    for name, data, signature in (
        ("outside", statement, envelope["signatures"][0]),
        ("inside", rawiso.content(after, "/respin.json"), signatures(iso)[0]),
    ):
        (tmp_path / name).write_bytes(pae(data))
        (tmp_path / f"{name}.asc").write_bytes(base64.b64decode(signature["sig"]))
        gpgv(forge, "respin", tmp_path, tmp_path / f"{name}.asc", tmp_path / name)


def test_countersigning_keeps_what_others_signed(
    forge: Forge, respun: Respun, iso: Path, trust: Path, tmp_path: Path
) -> None:
    first = signatures(iso)
    for suffix in (".intoto.jsonl", ".CHECKSUM"):
        shutil.copy(f"{respun.iso}{suffix}", f"{iso}{suffix}")
    for _ in range(2):  # the second time, the same key's is replaced
        assert sign(forge, iso, "unknown").code == 0
        names = [forge.keys.fingerprints["respin"], forge.keys.fingerprints["unknown"]]
        assert [one["keyid"] for one in signatures(iso)] == names
        assert signatures(iso)[0] == first[0]
        lines = (tmp_path / "out.iso.intoto.jsonl").read_bytes().splitlines()
        assert [json.loads(line)["signatures"][0]["keyid"] for line in lines] == names
    subject = json.loads(base64.b64decode(json.loads(lines[-1])["payload"]))["subject"][0]
    assert subject == {"name": "out.iso", "digest": {"sha256": sha256(iso)}}
    gpgv(forge, "unknown", tmp_path, tmp_path / "out.iso.CHECKSUM")
    done = forge.verify(iso, base=None, trust=trust)
    assert done.code == 0, done.err
    both = done.json["signatures"]
    assert [(one["verdict"], one["key"], one["counts"]) for one in both] == [("good", name, True) for name in names]
    one = forge.verify(iso, base=None).json["signatures"]
    assert [(each["verdict"], each["counts"]) for each in one] == [("good", True), ("unknown key", False)]
    shown = respin("verify", iso, "--trust", forge.keys.trust).out
    assert "unknown key" in shown
    assert names[1] in shown


def test_a_bad_signature_beside_a_good_one_is_refused(forge: Forge, iso: Path, trust: Path) -> None:
    good = signatures(iso)
    other = base64.b64encode(forge.keys.detach_sign("unknown", b"another statement")).decode()
    put(iso, [*good, {"keyid": forge.keys.fingerprints["unknown"], "sig": other}])
    assert forge.verify(iso, base=None).code == 0, "to who does not know the key it says nothing"
    done = forge.verify(iso, base=None, trust=trust)
    assert (done.code, done.json["error"]["finding"]) == (3, "badsig")
    put(iso, [*good, {"keyid": "", "sig": base64.b64encode(b"not a signature").decode()}])
    done = forge.verify(iso, base=None)
    assert (done.code, done.json["error"]["finding"]) == (3, "malformed")


def test_a_command_signs_and_says_so_about_the_checksum(forge: Forge, iso: Path, tmp_path: Path) -> None:
    put(iso, [])
    done = sign(forge, iso, "respin", "--signer", command(forge, "respin"))
    assert done.code == 0, done.err
    assert done.json["checked"] is False
    assert "not checked" in done.err
    assert forge.verify(iso, base=None).code == 0
    checksum, detached = tmp_path / "out.iso.CHECKSUM", tmp_path / "out.iso.CHECKSUM.asc"
    assert b"BEGIN PGP" not in checksum.read_bytes()
    gpgv(forge, "respin", tmp_path, detached, checksum)
    assert subprocess.run(["sha256sum", "-c", checksum], cwd=tmp_path, capture_output=True).returncode == 0
    assert sign(forge, iso, "respin").code == 0
    assert not detached.exists()


@pytest.mark.parametrize("which", ["wrong-key", "wrong-bytes", "fails", "no-such-key"])
def test_what_is_no_good_signature_changes_nothing(forge: Forge, iso: Path, tmp_path: Path, which: str) -> None:
    before = sha256(iso)
    home = ["--gnupg-home", forge.keys.gnupg_home]
    options: Dict[str, List[object]] = {
        "wrong-key": ["--signer", command(forge, "unknown"), *home],
        "wrong-bytes": ["--signer", f'sh -c "echo other | {command(forge, "respin")}"', *home],
        "fails": ["--signer", "false"],
        "no-such-key": [],
    }
    key = "respin"
    if which == "no-such-key":
        done = respin("sign", iso, "--key", "A" * 40, "--gnupg-home", forge.keys.gnupg_home, "--json")
        assert done.code == 2
    else:
        done = sign(forge, iso, key, *options[which])
        assert (done.code, done.json["error"]["finding"]) == (6, "cannot-sign")
    assert sha256(iso) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.iso"]


def test_nobody_signs_a_damaged_iso(forge: Forge, iso: Path, tmp_path: Path) -> None:
    with iso.open("r+b") as file:
        file.seek(40_000_000)
        byte = file.read(1)
        file.seek(40_000_000)
        file.write(bytes([byte[0] ^ 1]))
    before = sha256(iso)
    done = sign(forge, iso, "respin")
    assert (done.code, done.json["error"]["finding"]) == (3, "subject-digest")
    assert sha256(iso) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.iso"]
    stock = tmp_path / "stock.iso"
    shutil.copy(forge.iso, stock)
    assert sign(forge, stock, "respin").json["error"]["finding"] == "no-statement"


def torn(iso: Path, new: bytes, sectors: List[int]) -> None:
    """What a power cut leaves of a write to the slot: some sectors of it."""
    offset, _ = slot(iso)
    with iso.open("r+b") as file:
        for number in sectors:
            file.seek(offset + number * SECTOR)
            file.write(new[number * SECTOR :][:SECTOR])


def test_a_torn_slot_is_refused_and_can_be_signed_anew(
    forge: Forge, respun: Respun, iso: Path, trust: Path, tmp_path: Path
) -> None:
    """Countersigning is cut off: each sector of the slot is old or new."""
    offset, size = slot(iso)
    old = iso.read_bytes()[offset : offset + size]
    assert sign(forge, iso, "unknown").code == 0
    new = iso.read_bytes()[offset : offset + size]
    ours, theirs = forge.keys.fingerprints["respin"], forge.keys.fingerprints["unknown"]
    differing = [n for n in range(size // SECTOR) if old[n * SECTOR :][:SECTOR] != new[n * SECTOR :][:SECTOR]]
    assert len(differing) > 1
    for sectors in (differing[:1], differing[1:]):
        shutil.copy(respun.iso, iso)
        torn(iso, new, sectors)
        before = sha256(iso)
        assert forge.verify(iso, base=None).code == 3
        refused = sign(forge, iso, "respin")
        assert refused.code == 3
        assert refused.json["error"]["where"] == f"{iso}:/respin.sig"
        assert "--force" in refused.json["error"]["remedy"]
        assert sha256(iso) == before
        done = sign(forge, iso, "respin", "--force")
        assert done.code == 0, done.err
        assert (done.json["signatures"], set(done.json["dropped"]) - {theirs}) == ([ours], set())
        assert forge.verify(iso, base=None).code == 0
        mended = iso.read_bytes()
        assert mended[:offset] + mended[offset + size :] == (
            respun.iso.read_bytes()[:offset] + respun.iso.read_bytes()[offset + size :]
        )
        assert f"= {sha256(iso)}\n" in (tmp_path / "out.iso.CHECKSUM").read_text()


def test_signing_anew_drops_what_the_slot_holds_and_says_so(forge: Forge, iso: Path, trust: Path) -> None:
    """Also the way out of a slot with a signature in it that is broken and not one's own."""
    other = base64.b64encode(forge.keys.detach_sign("unknown", b"another statement")).decode()
    put(iso, [*signatures(iso), {"keyid": forge.keys.fingerprints["unknown"], "sig": other}])
    assert forge.verify(iso, base=None, trust=trust).code == 3
    assert sign(forge, iso, "respin").code == 0
    assert forge.verify(iso, base=None, trust=trust).code == 3, "others' signatures stay"
    done = sign(forge, iso, "respin", "--force")
    assert done.json["dropped"] == [forge.keys.fingerprints["unknown"]]
    assert forge.verify(iso, base=None, trust=trust).code == 0
    assert sign(forge, iso, "unknown").json["dropped"] == []


def test_nobody_signs_a_damaged_iso_by_force(forge: Forge, iso: Path) -> None:
    offset, _ = slot(iso)
    for place in (40_000_000, offset - 1):
        with iso.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
            file.flush()
            done = sign(forge, iso, "respin", "--force")
            assert done.code == 3, done.err
            file.seek(place)
            file.write(byte)
    assert sign(forge, iso, "respin", "--force").code == 0


def test_two_do_not_sign_at_once(forge: Forge, iso: Path) -> None:
    with iso.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = sign(forge, iso, "respin")
    assert (done.code, done.json["error"]["finding"]) == (6, "locked")
