"""What verification leaves behind for others: the summary attestation and the pages, when it passes and when not."""

from __future__ import annotations

import base64
import json
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.forge import Forge, respin


def check(statement: Dict[str, Any], iso: Path, began: float) -> Dict[str, Any]:
    """The fields that SLSA asks for; returns the predicate."""
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert statement["subject"] == [{"name": iso.name, "digest": {"sha256": sha256(iso)}}]
    predicate: Dict[str, Any] = statement["predicate"]
    assert predicate["verifier"]["id"] == "urn:respin:verifier"
    assert predicate["resourceUri"] == f"pkg:generic/{iso.name}?checksum=sha256:{sha256(iso)}"
    assert len(predicate["policy"]["digest"]["sha256"]) == 64
    verified = datetime.strptime(predicate["timeVerified"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert began - 1 <= verified.timestamp() <= time.time()
    return predicate


def test_a_signed_summary_and_a_page(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    began = time.time()
    summary, page = tmp_path / "out.vsa.json", tmp_path / "out.html"
    signing = {"sign_key": forge.keys.fingerprints["unknown"], "gnupg_home": forge.keys.gnupg_home}
    done = forge.verify(respun.iso, base=None, vsa=summary, report=page, **signing)
    assert done.code == 0, done.err
    envelope = json.loads(summary.read_bytes())
    payload = base64.b64decode(envelope["payload"])
    predicate = check(json.loads(payload), respun.iso, began)
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_1"]
    assert predicate["respin_complete"] is True
    inside = tmp_path / "respin.json"
    inside.write_bytes(rawiso.content(respun.iso.read_bytes(), "/respin.json"))
    assert predicate["inputAttestations"] == [{"digest": {"sha256": sha256(inside)}}]
    signed, signature, ring = tmp_path / "signed", tmp_path / "signed.asc", tmp_path / "ring.gpg"
    signed.write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload))
    signature.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    ring.write_bytes(forge.keys.gpg("--export", forge.keys.fingerprints["unknown"]))
    forge.keys.run(["gpgv", "--keyring", str(ring), str(signature), str(signed)])
    text = page.read_text("utf-8")
    for change in json.loads(inside.read_bytes())["predicate"]["respin_changes"]:
        assert change["path"] in text
    assert "<script" not in text
    again = forge.verify(respun.iso, base=None, report=page)
    assert (again.code, again.json["error"]["finding"]) == (2, "usage"), "nothing is overwritten without --force"


def test_a_failure_is_written_down_too(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    iso, summary, page = tmp_path / "bad.iso", tmp_path / "bad.vsa.json", tmp_path / "bad.md"
    shutil.copy(respun.iso, iso)
    with iso.open("r+b") as file:
        file.seek(40_000_000)
        file.write(b"tampered")
    began = time.time()
    done = forge.verify(iso, base=None, vsa=summary, report=page)
    assert done.code == 3
    finding = done.json["error"]["finding"]
    predicate = check(json.loads(summary.read_bytes()), iso, began)
    assert predicate["verificationResult"] == "FAILED"
    assert predicate["verifiedLevels"] == ["FAILED"]
    assert predicate["respin_finding"] == finding
    assert "FAILED" in page.read_text("utf-8")
    assert finding in page.read_text("utf-8")


@pytest.mark.parametrize(
    "options", [["--report", "x.pdf"], ["--sign-key", "A" * 40], ["--vsa", "x", "--sign-key", "A" * 40]], ids=" ".join
)
def test_options_that_make_no_sense(respun: Respun, forge: Forge, tmp_path: Path, options: "list[str]") -> None:
    done = respin("verify", respun.iso, "--trust", forge.keys.trust, *options, cwd=tmp_path)
    assert done.code == 2
    assert list(tmp_path.iterdir()) == []
