"""Real RPMs of distributions and of packaging projects get the verdict that was worked out for them.

The corpus is not part of the project: ``RESPIN_CORPUS`` names its directory. ``rpm/index.tsv`` in it has the verdict
expected of a strict verifier for each file, in words of its own, which are mapped to ours here.
"""

from __future__ import annotations

import csv
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest
from click.testing import CliRunner

from respin.byteview import FileView
from respin.cli.common import Session
from respin.cli.keys import keys
from respin.formats.openpgp import Keyring, Verdict
from respin.trust.keyfiles import collect
from respin.trust.rpmsig import RpmVerdict, verify_rpm_files

pytestmark = pytest.mark.skipif(not os.environ.get("RESPIN_CORPUS"), reason="RESPIN_CORPUS names no corpus")

# The index's words, each with the one verdict word that it means
EXPECTED = {
    "accept": "GOOD",
    "reject-unsigned": "UNSIGNED",
    "reject-unknown-key": "NOKEY",
    "reject-expired-key(policy)": "EXPKEY",
    "reject-corrupt": "BADDIGEST",
    "reject-unsupported-openpgp-v6": "UNSUPPORTED",
    # The index leaves the choice. A signature that can't be checked is refused here, as everywhere in respin.
    "accept-v4sig(ignore-unparsable-v6)/strict-reject": "UNSUPPORTED",
}
# Where we differ from the index, which looked at these through GnuPG alone. GnuPG is right that the signatures are
# good, and we say so (by GnuPG: GOOD). But rpm 4.18 reads neither ECDSA keys nor this key with its signing subkey, so
# it would refuse to install the package at level "all": the verdict is UNSUPPORTED unless this machine's rpm can.
RPM_CANNOT = {
    "rpm-basic-with-ecdsa-2.3.4-5.el9.noarch.rpm",
    "hello-2.0-1.x86_64-signed-with-subkey.rpm",
}
# Keys that the index was not made with: of the same test data, but changed copies of keys that are given already
# (a revoked or expired subkey, an added one) or made to be refused. One test below uses some of them.
UPSTREAM_KEYS = ("rpm.org-rsa-2048-test.pub", "alice.asc")


class Row(NamedTuple):
    file: Path
    expected: str
    nevra: str
    signatures: str


class Outcome(NamedTuple):
    row: Row
    verdict: RpmVerdict


def corpus() -> Path:
    return Path(os.environ["RESPIN_CORPUS"]) / "rpm"


def key_paths() -> List[Path]:
    upstream = corpus() / "rpm-software-management+rpm/tests/data/keys"
    centos = sorted((corpus() / "cavaliergopher+rpm/testdata").glob("RPM-GPG-KEY-*"))
    signing = sorted((corpus() / "rpm-rs+rpm/tests/assets/signing_keys/v4").glob("*.asc"))
    return [corpus() / "distkeys", *centos, *signing, *(upstream / name for name in UPSTREAM_KEYS)]


def rows() -> List[Row]:
    with (corpus() / "index.tsv").open(newline="") as stream:
        table = csv.DictReader(stream, delimiter="\t")
        return [
            Row(corpus() / row["file"], row["expected"], row["nevra"], row["sigs(tag/verdict/hash/pk/key)"])
            for row in table
        ]


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    found, _ = collect(key_paths())
    with Keyring(found, tmp_path_factory.mktemp("corpus"), strict=False) as keyring:
        yield keyring


@pytest.fixture(scope="module")
def outcomes(keyring: Keyring) -> Dict[str, Outcome]:
    wanted = rows()
    with ExitStack() as stack:
        views = []
        for row in wanted:
            fd = os.open(row.file, os.O_RDONLY)
            stack.callback(os.close, fd)
            views.append(FileView(fd, str(row.file)))
        verdicts = list(verify_rpm_files(views, keyring))
    assert len(verdicts) == len(wanted)
    return {str(row.file): Outcome(row, verdict) for row, verdict in zip(wanted, verdicts)}


def test_the_index_and_the_files_belong_together(outcomes: Dict[str, Outcome]) -> None:
    assert len(outcomes) >= 94
    assert {str(path) for path in corpus().rglob("*.rpm")} == set(outcomes)
    assert {outcome.row.expected for outcome in outcomes.values()} == set(EXPECTED)
    assert {path.name for path in map(Path, outcomes)} >= RPM_CANNOT


def test_every_package_gets_its_verdict(outcomes: Dict[str, Outcome]) -> None:
    wrong = {}
    for name, (row, verdict) in outcomes.items():
        expected = EXPECTED[row.expected]
        if row.file.name in RPM_CANNOT and verdict.by_rpm != "GOOD":
            assert (expected, verdict.by_gpg) == ("GOOD", Verdict.GOOD)
            expected = "UNSUPPORTED"
        if verdict.verdict.value != expected:
            wrong[name] = (expected, verdict.verdict.value, verdict.detail)
    assert wrong == {}


def test_what_gnupg_says_of_each_signature(outcomes: Dict[str, Outcome]) -> None:
    """Signature by signature: tag, signing key and whether it is good, as the index has it."""
    for name, (row, verdict) in outcomes.items():
        said: List[Tuple[str, bool]] = []
        for item in verdict.signatures:
            said.append((item.tag, item.signature.verdict is Verdict.GOOD))
        listed = [part.split("/") for part in row.signatures.split(";") if part != "-"]
        assert said == [(part[0], part[1] == "GOOD") for part in listed], name
        for item, part in zip(verdict.signatures, listed):
            if part[4]:
                assert (item.signature.signing_key or "").endswith(part[4]), name


def test_names_are_those_of_the_index(outcomes: Dict[str, Outcome]) -> None:
    for row, verdict in outcomes.values():
        assert verdict.rpm is not None
        header = verdict.rpm.header
        # The index leaves out epochs, and gives source packages the arch they were built for
        assert f"{header.name}-{header.version}-{header.release}.{header.arch}" == row.nevra
        assert header.is_source == row.file.name.endswith(".src.rpm")


def test_a_yes_of_rpm_alone_is_not_enough(outcomes: Dict[str, Outcome]) -> None:
    """The reason for asking twice: rpm's own OpenPGP accepts expired keys."""
    stricter = [
        outcome.row.file.name
        for outcome in outcomes.values()
        if outcome.verdict.by_rpm == "GOOD" and outcome.verdict.verdict is Verdict.EXPKEY
    ]
    assert len(stricter) >= 1


def verdict_with(tmp_path: Path, package: str, *key_names: str) -> RpmVerdict:
    data = corpus() / "rpm-software-management+rpm/tests/data"
    found, _ = collect([data / "keys" / name for name in key_names])
    fd = os.open(data / "RPMS" / package, os.O_RDONLY)
    try:
        with Keyring(found, tmp_path, strict=False) as keyring:
            (verdict,) = verify_rpm_files([FileView(fd, package)], keyring)
            return verdict
    finally:
        os.close(fd)


def test_subkeys_follow_what_became_of_them(tmp_path: Path) -> None:
    """The same package with the key as its owner changed it later: revoked subkey, expired subkey, added subkey."""
    package = "hello-2.0-1.x86_64-signed-with-subkey.rpm"
    assert verdict_with(tmp_path, package, "alice.asc").by_gpg is Verdict.GOOD
    assert verdict_with(tmp_path, package, "alice-revoked-subkey.asc").verdict is Verdict.REVKEY
    assert verdict_with(tmp_path, package, "alice-expired-subkey.asc").verdict is Verdict.EXPKEY
    added = "hello-2.0-1.x86_64-signed-with-new-subkey.rpm"
    assert verdict_with(tmp_path, added, "rpm.org-rsa-2048-test.pub").verdict is Verdict.NOKEY
    assert verdict_with(tmp_path, added, "rpm.org-rsa-2048-add-subkey.asc").by_gpg is Verdict.GOOD


@pytest.mark.parametrize("name", ["CVE-2021-3521-badbind.asc", "CVE-2021-3521-nosubsig-last.asc"])
def test_subkeys_that_the_primary_key_did_not_bind(tmp_path: Path, name: str) -> None:
    """CVE-2021-3521: a subkey pasted to a trusted key must not become trusted."""
    path = corpus() / "rpm-software-management+rpm/tests/data/keys" / name
    with Keyring([path.read_bytes()], tmp_path) as keyring:
        assert all(not key.subkeys for key in keyring.keys)


def test_keys_with_one_key_id_stay_two_keys(tmp_path: Path) -> None:
    folder = corpus() / "rpm-software-management+rpm/tests/data/keys"
    files = [(folder / f"keyidcollision{number}.pub").read_bytes() for number in (1, 2)]
    with Keyring(files, tmp_path) as keyring:
        fingerprints = [key.fingerprint for key in keyring.keys]
    assert len(set(fingerprints)) == 2
    assert len({fingerprint[-16:] for fingerprint in fingerprints}) == 1


def test_the_command_line_says_the_same(outcomes: Dict[str, Outcome]) -> None:
    folder = corpus() / "cavaliergopher+rpm/testdata"
    files = sorted(map(str, folder.glob("*.rpm")))
    arguments = ["verify", *files, "--json", "--keys", str(corpus() / "distkeys")]
    for file in sorted(folder.glob("RPM-GPG-KEY-*")):
        arguments += ["--keys", str(file)]
    result = CliRunner().invoke(keys, arguments, obj=Session())
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert [item["verdict"] for item in document["files"]] == [outcomes[file].verdict.verdict.value for file in files]
