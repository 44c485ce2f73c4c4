"""An RPM's signatures and digests, judged twice: by GnuPG over the signed byte ranges, and by rpm at level "all".

Both must agree that the package is good. rpm 4.18's own OpenPGP says yes to expired and revoked keys and to broken
hashes, and GnuPG says nothing about which bytes rpm will install. Where rpm cannot read a key (ECDSA, subkeys) the
verdict is UNSUPPORTED, never a guess.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

from respin import process, rpmbindings
from respin.byteview import ByteView, FileView, chunks
from respin.errors import BuildError, MalformedError, MissingToolError, UnsupportedError
from respin.formats.openpgp import Keyring, Signature, Verdict
from respin.formats.openpgp.model import WEAK_HASHES
from respin.formats.rpmfile import PackageSignature, RpmFile
from respin.limits import LIMITS, MiB
from respin.trust.sealed import Sealed, seal

# From the worst on; the first that applies is the verdict
_SEVERITY = (
    Verdict.MALFORMED,
    Verdict.BADDIGEST,
    Verdict.BADSIG,
    Verdict.REVKEY,
    Verdict.FUTURE,
    Verdict.EXPKEY,
    Verdict.WEAK,
    Verdict.PAYLOAD_NOT_COVERED,
    Verdict.UNSUPPORTED,
    Verdict.NOKEY,
    Verdict.UNSIGNED,
)
_BATCH_BYTES = 256 * MiB
_BATCH_FILES = 64


@dataclass(frozen=True)
class RpmSignature:
    """One signature of a package: the tag it stands in, whether it covers the payload too, what GnuPG says."""

    tag: str
    covers_payload: bool
    signature: Signature


@dataclass(frozen=True)
class RpmVerdict:
    """What both verifiers say. ``by_rpm`` is a verdict word as well, "-" when rpm was not asked.

    ``problems`` are all objections, the worst first. ``signers`` are the primary fingerprints of keys whose validated
    signatures cover header and payload, each on its own. ``rpm`` is the parsed file unless it is broken.
    """

    verdict: Verdict
    by_gpg: Verdict
    by_rpm: str
    nevra: str
    signatures: Tuple[RpmSignature, ...]
    detail: str
    problems: Tuple[Verdict, ...]
    signers: Tuple[str, ...]
    rpm: Optional[RpmFile]


@dataclass(frozen=True)
class _GpgWord:
    problems: Tuple[Verdict, ...]
    details: Tuple[str, ...]
    signatures: Tuple[RpmSignature, ...] = ()
    signers: Tuple[str, ...] = ()
    rpm: Optional[RpmFile] = None


@dataclass(frozen=True)
class _Parsed:
    """A package taken apart: its signatures, and which of its own digests and sizes don't hold."""

    package: RpmFile
    signatures: Sequence[PackageSignature]
    wrong: Sequence[str]


def verify_rpm_files(views: Iterable[ByteView], keyring: Keyring) -> Iterable[RpmVerdict]:
    """Judge packages in their order, asking rpm about several at once, of copies in sealed files.

    Never raises for bad packages, they have verdicts.
    """
    batch: List[Sealed] = []
    names: List[str] = []
    try:
        for view in views:
            if batch and (len(batch) >= _BATCH_FILES or sum(item.size for item in batch) + view.size > _BATCH_BYTES):
                yield from verify_sealed(batch, names, keyring)
                _close(batch, names)
            if view.size > LIMITS.rpm:
                yield from verify_sealed(batch, names, keyring)
                _close(batch, names)
                yield _combine(_GpgWord((Verdict.MALFORMED,), (f"{view.size} bytes are too many",)), "-", "")
                continue
            batch.append(seal(view, where=view.name, limit=LIMITS.rpm))
            names.append(view.name)
        yield from verify_sealed(batch, names, keyring)
    finally:
        _close(batch, names)


def _close(batch: List[Sealed], names: List[str]) -> None:
    for item in batch:
        item.close()
    batch.clear()
    names.clear()


def verify_sealed(files: Sequence[Sealed], names: Sequence[str], keyring: Keyring) -> List[RpmVerdict]:
    """Judge packages that are sealed already; ``names`` are for messages."""
    parsed = [_parse(file.view(name)) for file, name in zip(files, names)]
    # What has no readable structure is not shown to rpm's parser at all
    asked = [file for file, package in zip(files, parsed) if isinstance(package, _Parsed)]
    with ThreadPoolExecutor(1, thread_name_prefix="ask-rpm") as beside:
        answering = beside.submit(_ask_rpm, asked, keyring)
        by_gpg = [
            one if isinstance(one, _GpgWord) else _ask_gpg(file, one, keyring) for file, one in zip(files, parsed)
        ]
        answers = dict(zip((file.fd for file in asked), answering.result()))
    return [_combine(word, *answers.get(file.fd, ("-", ""))) for file, word in zip(files, by_gpg)]


def _parse(view: FileView) -> Union[_Parsed, _GpgWord]:
    """What a package's structure says; the verdict instead if it has none."""
    try:
        package = RpmFile.parse(view)
        return _Parsed(package, package.signatures(), _wrong_digests(package, view))
    except MalformedError as error:
        return _GpgWord((Verdict.MALFORMED,), (str(error),))
    except UnsupportedError as error:
        return _GpgWord((Verdict.UNSUPPORTED,), (str(error),))


def _ask_gpg(file: Sealed, parsed: _Parsed, keyring: Keyring) -> _GpgWord:
    package, wrong = parsed.package, parsed.wrong
    signatures = tuple(
        RpmSignature(
            signature.tag,
            signature.covers_payload,
            keyring.verify_detached_fd(signature.packets, file.fd, package.header_range[0])
            if signature.covers_payload
            else keyring.verify_detached(signature.packets, package.header.raw),
        )
        for signature in parsed.signatures
    )
    signers = _complete_signers(package, signatures)
    problems = {problem for item in signatures for problem in item.signature.problems}
    details = [f"{what} is wrong" for what in wrong]
    details += [f"{item.tag}: {item.signature.detail}" for item in signatures]
    if wrong:
        problems.add(Verdict.BADDIGEST)
    if not signatures:
        problems.add(Verdict.UNSIGNED)
        details.append("there is no signature")
    elif not signers and any(item.signature.validated for item in signatures):
        problems.add(Verdict.PAYLOAD_NOT_COVERED)
        details.append("no signed digest and no signature covers the payload")
    ordered = tuple(verdict for verdict in _SEVERITY if verdict in problems)
    return _GpgWord(ordered, tuple(details), signatures, signers, package)


def _complete_signers(package: RpmFile, signatures: Sequence[RpmSignature]) -> Tuple[str, ...]:
    """Keys whose own signatures cover everything.

    That is: header and payload, or the header while a strong payload digest stands in it. Whether that digest is right
    was checked with the other digests.
    """
    digest = package.header.payload_digest
    strong = bool(digest) and package.header.payload_digest_algorithm not in WEAK_HASHES
    signers: Dict[str, None] = {}
    for item in signatures:
        if item.signature.validated and item.signature.primary and (item.covers_payload or strong):
            signers[item.signature.primary] = None
    return tuple(signers)


def _wrong_digests(package: RpmFile, view: FileView) -> List[str]:
    """Which of the digests and sizes that the file gives about itself don't hold."""
    wrong = []
    start, end = package.header_range[0], package.payload_range[1]
    for algorithm, expected in package.header_digests().items():
        if not hmac.compare_digest(_hash(algorithm, [package.header.raw]).hex().encode(), _ascii(expected)):
            wrong.append(f"the {algorithm} digest of the header")
    if package.whole_size() not in (None, (end - start) & 0xFFFFFFFF, end - start):
        wrong.append(f"the size of header and payload, {package.whole_size()} bytes,")
    md5, payload_digest = package.whole_md5(), package.header.payload_digest
    if md5 is not None and _hash("md5", chunks(view, start)) != md5:
        wrong.append("the md5 digest of header and payload")
    if payload_digest:
        algorithm = package.header.payload_digest_algorithm
        if _hash(algorithm, chunks(view, package.payload_range[0])).hex() != payload_digest:
            wrong.append(f"the {algorithm} digest of the payload")
    return wrong


def _hash(algorithm: str, pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.new(algorithm, usedforsecurity=False)  # some of them only find accidents; FIPS hosts know that
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _ascii(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _ask_rpm(files: Sequence[Sealed], keyring: Keyring) -> List[Tuple[str, str]]:
    """rpm's word on each file and what it said, from a child process with an empty configuration."""
    if not files:
        return []
    with tempfile.TemporaryDirectory(prefix="rpm-", dir=keyring.tmpdir) as scratch:
        for folder in ("config", "db", "plugins"):
            (Path(scratch) / folder).mkdir()
        for name in ("rpmrc", "macros"):
            (Path(scratch) / "config" / name).touch()
        # A fresh open file for the child: rpm moves the position
        fds = [os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY | os.O_CLOEXEC) for file in files]
        try:
            bindings = rpmbindings.directory()
            keys = [key.armored.decode("ascii") for key in keyring.keys]
            job = {"keys": keys, "fds": fds, "scratch": scratch, "bindings": bindings}
            # Told where they are, it need not find out what else is installed.
            options = ["-I"] if bindings is None else ["-I", "-S"]
            done = process.run(
                [sys.executable, *options, str(Path(__file__).with_name("rpmchild.py"))],
                check=False,
                env={"RPM_CONFIGDIR": str(Path(scratch) / "config")},
                input=json.dumps(job).encode("ascii"),
                pass_fds=fds,
            )
        finally:
            for fd in fds:
                os.close(fd)
    if done.returncode < 0:
        if len(files) == 1:
            return [(Verdict.MALFORMED.value, f"rpm died of signal {-done.returncode}")]
        return [answer for file in files for answer in _ask_rpm([file], keyring)]
    if done.returncode:
        if b"ImportError" in done.stderr or b"ModuleNotFoundError" in done.stderr:
            raise MissingToolError(
                "the Python bindings of rpm are not installed for this Python",
                remedy="Debian: apt install python3-rpm; EL/Fedora: dnf install python3-rpm; then pip install rpm",
            )
        raise BuildError(f"asking rpm failed: {done.explain()}", finding="rpm-failed")
    return [(str(word), str(said)) for word, said in json.loads(done.stdout)["words"]]


def _combine(gpg: _GpgWord, by_rpm: str, said: str) -> RpmVerdict:
    problems = list(gpg.problems)
    details = list(gpg.details)
    if by_rpm not in ("GOOD", "-"):
        details.append(f"rpm: {said}")
        word = Verdict(by_rpm)
        if word in (Verdict.NOKEY, Verdict.UNSIGNED) and word not in problems:
            # GnuPG has validated signatures that this rpm can't read
            word = Verdict.UNSUPPORTED
        if word not in problems:
            problems.append(word)
    by_gpg = gpg.problems[0] if gpg.problems else Verdict.GOOD
    return RpmVerdict(
        verdict=problems[0] if problems else Verdict.GOOD,
        by_gpg=by_gpg,
        by_rpm=by_rpm,
        nevra=gpg.rpm.header.nevra if gpg.rpm else "",
        signatures=gpg.signatures,
        detail="; ".join(details),
        problems=tuple(problems),
        signers=gpg.signers,
        rpm=gpg.rpm,
    )
