"""Results of tests beside an ISO: signed, of exactly these bytes, shown, and never at the cost of what was there."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support.forge import Done, Forge, respin

KIND = "https://in-toto.io/attestation/test-result/v0.1"


@pytest.fixture
def iso(respun: Respun, tmp_path: Path) -> Path:
    """A copy of the respun ISO with what stands beside it."""
    for suffix in ("", ".intoto.jsonl", ".CHECKSUM"):
        shutil.copy(f"{respun.iso}{suffix}", tmp_path / f"out.iso{suffix}")
    return tmp_path / "out.iso"


def results(of: Path, **changes: Any) -> Path:
    """A valid file of results, with changes."""
    document: Dict[str, Any] = {
        "schema": "respin.test-results/1",
        "iso": {"name": of.name, "sha256": sha256(of)},
        "configuration": [{"name": "qemu", "digest": {"sha256": "ab" * 32}}],
        "tests": [{"name": "bios-cd", "result": "PASSED", "seconds": 60}, {"name": "uefi-usb", "result": "PASSED"}],
    }
    file = of.with_name("results.json")
    file.write_text(json.dumps({**document, **changes}))
    return file


def attest(forge: Forge, iso: Path, file: Path, *more: object, key: str = "respin") -> Done:
    home = [] if "--signer" in more else ["--gnupg-home", forge.keys.gnupg_home]
    return respin("attest", iso, "--test-result", file, "--key", forge.keys.fingerprints[key], *home, *more, "--json")


def lines(iso: Path) -> List[bytes]:
    return Path(f"{iso}.intoto.jsonl").read_bytes().splitlines()


def left(iso: Path) -> List[str]:
    return sorted(path.name for path in iso.parent.iterdir())


def gpgv(forge: Forge, key: str, line: bytes, tmp_path: Path) -> Dict[str, Any]:
    """The statement in an envelope, its first signature verified by gpgv and nothing of respin's."""
    envelope = json.loads(line)
    payload = base64.b64decode(envelope["payload"])
    (tmp_path / "ring.gpg").write_bytes(forge.keys.gpg("--export", forge.keys.fingerprints[key]))
    (tmp_path / "signed").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload))
    (tmp_path / "signed.asc").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    forge.keys.run(
        ["gpgv", "--keyring", str(tmp_path / "ring.gpg"), str(tmp_path / "signed.asc"), str(tmp_path / "signed")]
    )
    statement: Dict[str, Any] = json.loads(payload)
    return statement


def test_the_results_are_one_more_signed_line(forge: Forge, iso: Path, tmp_path: Path) -> None:
    before, iso_before = lines(iso), sha256(iso)
    done = attest(forge, iso, results(iso))
    assert done.code == 0, done.err
    after = lines(iso)
    assert after[:-1] == before
    statement = gpgv(forge, "respin", after[-1], tmp_path)
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "out.iso", "digest": {"sha256": sha256(iso)}}],
        "predicateType": KIND,
        "predicate": {
            "result": "PASSED",
            "configuration": [{"name": "qemu", "digest": {"sha256": "ab" * 32}}],
            "passedTests": ["bios-cd", "uefi-usb"],
        },
    }
    assert sha256(iso) == iso_before
    assert done.json["statements"] == len(after)
    assert (done.json["result"], done.json["passed"], done.json["failed"]) == ("PASSED", 2, 0)
    assert forge.verify(iso, base=None).code == 0


def test_inspect_shows_them_and_whose_bytes_they_are(forge: Forge, iso: Path) -> None:
    failed = [{"name": "bios-cd", "result": "PASSED"}, {"name": "uefi-usb", "result": "FAILED"}]
    assert attest(forge, iso, results(iso), key="unknown").code == 0
    assert attest(forge, iso, results(iso, tests=failed), key="unknown").code == 0
    found = [one for one in respin("inspect", iso, "--json").json["beside"] if one["predicate_type"] == KIND]
    assert [(one["result"], one["passed"], one["failed"], one["this_iso"]) for one in found] == [
        ("PASSED", ["bios-cd", "uefi-usb"], [], True),
        ("FAILED", ["bios-cd"], ["uefi-usb"], True),
    ]
    shown = respin("inspect", iso).out
    assert f"FAILED: 1 passed, 1 failed; signed by {forge.keys.fingerprints['unknown']}, not verified" in shown
    assert "of another ISO" not in shown
    # Countersigned, the ISO is another; the results stay and say so.
    signed = respin(
        "sign", iso, "--key", forge.keys.fingerprints["unknown"], "--gnupg-home", forge.keys.gnupg_home, "--json"
    )
    assert signed.code == 0, signed.err
    found = [one for one in respin("inspect", iso, "--json").json["beside"] if one["predicate_type"] == KIND]
    assert [one["this_iso"] for one in found] == [False, False]
    assert respin("inspect", iso).out.count("of another ISO") == 2


def test_damage_beside_the_iso_is_named_and_nothing_more(forge: Forge, iso: Path) -> None:
    beside = Path(f"{iso}.intoto.jsonl")
    beside.write_bytes(beside.read_bytes() + b"garbage\n")
    kept = beside.read_bytes()
    done = respin("inspect", iso, "--json")
    assert done.code == 0
    assert done.json["beside"] == []
    assert "line 2" in done.json["beside_reason"]
    assert "line 2" in respin("inspect", iso).out
    done = attest(forge, iso, results(iso))
    assert (done.code, done.json["error"]["finding"]) == (3, "bad-json")
    assert beside.read_bytes() == kept


@pytest.mark.parametrize(
    ("changes", "code", "finding"),
    [
        ({"iso": {"name": "out.iso", "sha256": "cd" * 32}}, 3, "other-iso"),
        ({"tests": []}, 3, "bad-results"),
        ({"result": "PASSED"}, 3, "bad-results"),
    ],
)
def test_what_is_not_about_this_iso_is_not_signed(
    forge: Forge, iso: Path, changes: Dict[str, Any], code: int, finding: str
) -> None:
    file, before = results(iso, **changes), lines(iso)
    names = left(iso)
    done = attest(forge, iso, file)
    assert (done.code, done.json["error"]["finding"]) == (code, finding)
    assert lines(iso) == before
    assert left(iso) == names


def test_a_command_signs_and_a_wrong_signature_is_not_written(forge: Forge, iso: Path, tmp_path: Path) -> None:
    home = shlex.quote(str(forge.keys.gnupg_home))
    command = f"gpg --homedir {home} --batch --quiet --local-user {{}} --armor --detach-sign"
    file, before = results(iso), lines(iso)
    wrong = command.format(forge.keys.fingerprints["unknown"])
    done = attest(forge, iso, file, "--signer", wrong, "--gnupg-home", forge.keys.gnupg_home)
    assert (done.code, done.json["error"]["finding"]) == (6, "cannot-sign")
    assert lines(iso) == before
    done = attest(forge, iso, file, "--signer", command.format(forge.keys.fingerprints["respin"]))
    assert done.code == 0, done.err
    assert done.json["checked"] is False
    gpgv(forge, "respin", lines(iso)[-1], tmp_path)


def test_a_file_of_its_own(forge: Forge, iso: Path, tmp_path: Path) -> None:
    file, before, own = results(iso), lines(iso), tmp_path / "tests.intoto.jsonl"
    assert attest(forge, iso, file, "-o", own).code == 0
    assert lines(iso) == before
    assert gpgv(forge, "respin", own.read_bytes(), tmp_path)["predicateType"] == KIND
    kept = own.read_bytes()
    assert attest(forge, iso, file, "-o", own).code == 2
    assert own.read_bytes() == kept
    assert attest(forge, iso, file, "-o", own, "--force").code == 0


def test_without_a_file_beside_the_iso_one_is_made(forge: Forge, iso: Path, tmp_path: Path) -> None:
    Path(f"{iso}.intoto.jsonl").unlink()
    assert attest(forge, iso, results(iso)).code == 0
    (line,) = lines(iso)
    assert gpgv(forge, "respin", line, tmp_path)["predicateType"] == KIND


def test_two_at_once_do_not_lose_a_line(forge: Forge, iso: Path) -> None:
    file, before = results(iso), lines(iso)
    fd = os.open(iso, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        done = attest(forge, iso, file)
    finally:
        os.close(fd)
    assert (done.code, done.json["error"]["finding"]) == (6, "locked")
    assert lines(iso) == before


def test_the_page_checks_them_without_respin(forge: Forge, iso: Path, tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "attest-tests.md"
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "tester.asc").write_bytes(forge.keys.gpg("--armor", "--export", forge.keys.fingerprints["unknown"]))

    def check() -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return subprocess.run(
            ["bash", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    file = results(iso)
    assert attest(forge, iso, file).code == 0
    assert check().returncode != 0, "nobody but another key says so"
    assert attest(forge, iso, file, key="unknown").code == 0
    done = check()
    assert done.returncode == 0, done.stderr
    assert "out.iso: OK" in done.stdout
    assert '"result": "PASSED"' in done.stdout
    with iso.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\1")
    assert check().returncode != 0, "these are other bytes"


def test_sha256sum_agrees_with_the_subject(forge: Forge, iso: Path) -> None:
    assert attest(forge, iso, results(iso)).code == 0
    said = subprocess.run(["sha256sum", iso.name], cwd=iso.parent, capture_output=True, text=True, check=True).stdout
    statement = json.loads(base64.b64decode(json.loads(lines(iso)[-1])["payload"]))
    assert statement["subject"] == [{"name": iso.name, "digest": {"sha256": said.split()[0]}}]
