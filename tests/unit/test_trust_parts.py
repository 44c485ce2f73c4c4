"""Parts of respin.trust that the other tests don't reach: sealing, policy files, rpm's half when rpm fails."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin import process
from respin.byteview import BytesView
from respin.errors import BuildError, MalformedError, MissingToolError, UsageError
from respin.formats.openpgp import Keyring, Verdict
from respin.trust import Role, policyfile, rpmchild
from respin.trust.policyfile import PolicyEntry
from respin.trust.rpmsig import verify_rpm_files
from respin.trust.sealed import seal
from respin.trust.verdicts import EXPLANATIONS
from tests.support.keys import KeyWorld

# sealing


def test_seal_copies_what_was_there_and_not_what_came_later(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    sealed = seal(file, where="file", limit=100)
    file.write_bytes(b"after!")
    assert os.pread(sealed.fd, 100, 0) == b"before"
    sealed.close()


def test_seal_refuses_what_is_no_file_or_too_large(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="regular"):
        seal(tmp_path / "fifo", where="fifo", limit=100)
    with pytest.raises(UsageError, match="regular"):
        seal(tmp_path, where="folder", limit=100)
    with pytest.raises(MalformedError, match="more than"):
        seal(BytesView(bytes(101), "big"), where="big", limit=100)


# policy files

text = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=20).filter(
    lambda value: value.isprintable()
)
entries = st.builds(
    PolicyEntry,
    fingerprint=st.text("0123456789ABCDEF", min_size=40, max_size=40),
    role=st.sampled_from(Role),
    tier=st.sampled_from(["vendor", "certified", "partner", "community"]),
    scope=st.lists(text.filter(bool), min_size=1, max_size=3).map(tuple),
    allow_expired=st.booleans(),
    allow_weak=st.booleans(),
    comment=text,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(entries, max_size=4, unique_by=lambda entry: (entry.fingerprint, entry.role)))
def test_policy_files_are_read_back(wanted: List[PolicyEntry]) -> None:
    policy = policyfile.Policy(tuple(wanted))
    assert policyfile.parse(policyfile.render(policy), where="policy.toml") == policy


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_policy_files_never_fail_otherwise(content: str) -> None:
    try:
        policyfile.parse(f"version = 1\n{content}", where="policy.toml")
    except UsageError:
        pass


def test_every_word_is_explained_and_documented() -> None:
    assert set(EXPLANATIONS) == set(Verdict)
    documented = (Path(__file__).parents[2] / "docs/reference/trust.md").read_text()
    for verdict in Verdict:
        assert f"| {verdict.value} |" in documented


def test_the_template_of_a_store_trusts_nobody_and_is_right(tmp_path: Path) -> None:
    template = (Path(__file__).parents[2] / "keys/policy.toml").read_text()
    assert policyfile.parse(template, where="keys/policy.toml") == policyfile.Policy(())
    example = "\n".join(
        line[2:] if line.startswith("# [") or (line.startswith("# ") and " = " in line) else line
        for line in template.splitlines()
    )
    found = policyfile.parse(example, where="keys/policy.toml, with its example")
    (entry,) = found.entries
    assert [str(one) for one in found.minimums] == ["1.0-3", "1.2"]
    assert found.expires == 1_814_313_600
    assert (entry.role, entry.scope, entry.comment[:11]) == (Role.PLUGIN, ("exnic-*",), "Example IHV")


# rpm's half


@pytest.fixture(scope="module")
def signed(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = key_world.build_rpm(tmp_path_factory.mktemp("parts"), "parts")
    return key_world.sign_rpm(path).read_bytes()


def rpm_ends(monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: bytes = b"", stdout: bytes = b"") -> None:
    real = process.run

    def run(argv: Any, **how: Any) -> process.Completed:
        if any(str(part).endswith("rpmchild.py") for part in argv):
            return process.Completed(tuple(argv), returncode, stdout, stderr)
        return real(argv, **how)

    monkeypatch.setattr(process, "run", run)


def test_a_package_that_kills_rpm_is_malformed(
    key_world: KeyWorld, signed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm_ends(monkeypatch, -11)
    with Keyring([key_world.public("rpm")], tmp_path) as keyring:
        for verdict in verify_rpm_files([BytesView(signed, "a"), BytesView(signed, "b")], keyring):
            assert (verdict.by_gpg, verdict.verdict) == (Verdict.GOOD, Verdict.MALFORMED)


def test_without_rpm_there_is_no_verdict(
    key_world: KeyWorld, signed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Keyring([key_world.public("rpm")], tmp_path) as keyring:
        rpm_ends(monkeypatch, 1, b"ModuleNotFoundError: No module named 'rpm'")
        with pytest.raises(MissingToolError, match="bindings"):
            list(verify_rpm_files([BytesView(signed, "a")], keyring))
        rpm_ends(monkeypatch, 1, b"something else")
        with pytest.raises(BuildError):
            list(verify_rpm_files([BytesView(signed, "a")], keyring))


@pytest.mark.parametrize("word", ["NOKEY", "UNSIGNED", "BADSIG", "BADDIGEST", "MALFORMED", "UNSUPPORTED"])
def test_a_no_of_rpm_is_never_overruled(
    key_world: KeyWorld, signed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    rpm_ends(monkeypatch, 0, stdout=f'{{"words": [["{word}", "no"]]}}'.encode())
    with Keyring([key_world.public("rpm")], tmp_path) as keyring:
        (verdict,) = verify_rpm_files([BytesView(signed, "a")], keyring)
    assert verdict.by_gpg is Verdict.GOOD
    assert verdict.verdict.value == {"NOKEY": "UNSUPPORTED", "UNSIGNED": "UNSUPPORTED"}.get(word, word)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("package a-1 does not verify: no signature", "UNSIGNED"),
        ("package a-1 does not verify: no digest", "BADDIGEST"),
        ("Header V4 RSA/SHA256 Signature, key ID 00000000: NOKEY", "NOKEY"),
        ("Header V4 RSA/SHA256 Signature, key ID 00000000: BAD", "BADSIG"),
        ("Payload SHA256 digest: BAD (Expected 0 != 1)", "BADDIGEST"),
        ("something that no rpm says today", "MALFORMED"),
    ],
)
def test_rpms_messages(said: str, word: str) -> None:
    assert rpmchild.word_for([said]) == word


def test_an_rpm_that_says_yes_to_everything_counts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Transaction(SimpleNamespace):
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: [] if name == "problems" else None

    rpm = SimpleNamespace(
        addMacro=lambda name, value: None, keyring=lambda: SimpleNamespace(addKey=lambda key: 0), error=OSError,
        pubkey=lambda data: data, TransactionSet=lambda root: Transaction(), RPMTRANS_FLAG_TEST=1,
        RPMSIG_VERIFIABLE_TYPE=3, RPMCALLBACK_INST_OPEN_FILE=4,
    )  # fmt: skip
    fd = os.memfd_create("x")
    job = f'{{"keys": [], "fds": [{fd}, {fd}], "scratch": "/nonexistent", "bindings": null}}'
    monkeypatch.setitem(sys.modules, "rpm", rpm)
    monkeypatch.setattr(sys, "stdin", io.StringIO(job))
    monkeypatch.setattr("resource.setrlimit", lambda *arguments: None)
    rpmchild.main()
    os.close(fd)
    words = json.loads(capsys.readouterr().out)["words"]
    assert [word for word, _ in words] == ["UNSUPPORTED", "UNSUPPORTED"]
