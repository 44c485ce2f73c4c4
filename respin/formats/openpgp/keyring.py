"""Verification with exactly the given public keys, in a private GnuPG home that lives as long as the keyring."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple, Type, Union

from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.openpgp import cleartext
from respin.formats.openpgp.home import gpg
from respin.formats.openpgp.judge import BINARY, TEXT, judge
from respin.formats.openpgp.keylist import Listed, Strength, export_keys, list_keys
from respin.formats.openpgp.model import PublicKey, Signature, Verdict, refused
from respin.formats.openpgp.packets import SIGNATURE, dearmor, fingerprint, key_material, packets, split_keys
from respin.limits import LIMITS

_VERIFY = ("--status-fd", "1", "--enable-special-filenames", "--verify", "--")


class Keyring:
    """Public keys to verify with; a context manager.

    ``keys`` are key files, armored or binary. With ``strict`` (the default) a file without a usable key is a
    MalformedError or UnsupportedError; without it, such files are described in ``skipped``. Signatures are judged as at
    the time ``at`` (seconds since 1970), which is now if it is None.
    """

    def __init__(self, keys: Iterable[bytes], tmpdir: Path, *, strict: bool = True, at: Optional[int] = None) -> None:
        self.tmpdir = tmpdir
        self._at = at
        # The exclamation mark stops the clock (gpg(1)). Only verification is ever told another time.
        self._time = [] if at is None else ["--faked-system-time", f"{at}!"]
        self._home = Path(tempfile.mkdtemp(prefix="keyring-", dir=tmpdir))
        self.skipped: Tuple[str, ...] = ()
        try:
            self._listed, self._strengths = self._import(list(keys), strict=strict)
        except BaseException:
            self.close()
            raise
        self._allowed = frozenset(key.fingerprints[0] for key in self._listed)

    @cached_property
    def keys(self) -> Tuple[PublicKey, ...]:
        """The usable ones of the given keys; asked for while the keyring is open."""
        return export_keys(self._home, self._listed) if self._listed else ()

    def _import(self, files: Sequence[bytes], *, strict: bool) -> Tuple[Sequence[Listed], Mapping[str, Strength]]:
        wanted: List[Tuple[str, bytes]] = []
        skipped: List[str] = []
        for number, data in enumerate(files, 1):
            try:
                wanted += _usable_keys(data, where=f"key file {number}")
            except (MalformedError, UnsupportedError) as error:
                if strict:
                    raise
                skipped.append(str(error))
        if not wanted:
            self.skipped = tuple(skipped)
            return (), {}
        # All at once; whatever GnuPG stumbled over is tried again alone, so that it spoils nothing else.
        gpg(self._home, ["--import"], data=b"".join(data for _, data in wanted))
        keys, strengths = list_keys(self._home)
        known = {key.fingerprints[0] for key in keys}
        missing = [(name, data) for name, data in wanted if name not in known]
        for _, data in missing:
            gpg(self._home, ["--import"], data=data)
        if missing:
            keys, strengths = list_keys(self._home)
            known = {key.fingerprints[0] for key in keys}
        for name, _ in missing:
            if name not in known:
                skipped.append(f"GnuPG does not accept the key {name}: it has no valid self-signature")
                if strict:
                    raise MalformedError(skipped[-1], remedy="get the key again from its owner")
        self.skipped = tuple(skipped)
        return keys, strengths

    def verify_detached(self, signature: bytes, data: Union[bytes, Sequence[bytes]]) -> Signature:
        """Judge a detached signature over ``data`` (or the concatenation of its pieces)."""
        return self.verify_detached_view(signature, [data] if isinstance(data, bytes) else data)

    def verify_detached_view(self, signature: bytes, pieces: Iterable[bytes]) -> Signature:
        """As :meth:`verify_detached`, for data that need not fit into memory."""
        with tempfile.TemporaryFile(dir=self._home) as spool:
            for piece in pieces:
                spool.write(piece)
            spool.flush()
            return self.verify_detached_fd(signature, spool.fileno())

    def verify_detached_fd(self, signature: bytes, fd: int, offset: int = 0) -> Signature:
        """As :meth:`verify_detached`, over the file ``fd`` from byte ``offset`` to its end; its position is not moved.

        The signature must be exactly one signature packet of version 3 or 4, armored or not, of class 00.
        """
        if not signature:
            return refused(Verdict.UNSIGNED, "there is no signature")
        try:
            packet = _single_signature(signature)
        except MalformedError as error:
            return refused(Verdict.MALFORMED, error.what)
        except UnsupportedError as error:
            return refused(Verdict.UNSUPPORTED, error.what)
        data = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.lseek(data, offset, os.SEEK_SET)
            with tempfile.TemporaryFile(dir=self._home) as file:
                file.write(packet)
                file.flush()
                file.seek(0)
                names = [f"-&{file.fileno()}", f"-&{data}"]
                done = gpg(self._home, [*self._time, *_VERIFY, *names], pass_fds=(file.fileno(), data))
        finally:
            os.close(data)
        return self._judge(done.stdout, done.returncode, BINARY)

    def verify_clearsigned(self, text: bytes) -> Tuple[Signature, bytes]:
        """Judge a clearsigned text; also returns what was signed, or b"" unless the verdict is GOOD, EXPKEY or WEAK.

        The text comes out of GnuPG, lines ending in a line feed and without white space at their ends (which a
        cleartext signature does not cover).
        """
        try:
            if len(text) > LIMITS.checksum_file:
                raise MalformedError(f"a signed text of {len(text)} bytes is too large")
            _single_signature(cleartext.signature_packets(text, where="signed text"))
        except MalformedError as error:
            unsigned = b"-----BEGIN PGP" not in text
            return refused(Verdict.UNSIGNED if unsigned else Verdict.MALFORMED, error.what), b""
        except UnsupportedError as error:
            return refused(Verdict.UNSUPPORTED, error.what), b""
        with tempfile.TemporaryFile(dir=self._home) as output:
            arguments = [
                *self._time,
                "--enable-special-filenames",
                "--output",
                f"-&{output.fileno()}",
                "--status-fd",
                "1",
                "--verify",
            ]
            done = gpg(self._home, arguments, data=text, pass_fds=(output.fileno(),))
            output.seek(0)
            content = cleartext.signed_text(output.read())
        signature = self._judge(done.stdout, done.returncode, TEXT)
        shown = signature.validated and signature.verdict in (Verdict.GOOD, Verdict.EXPKEY, Verdict.WEAK)
        return signature, content if shown else b""

    def _judge(self, output: bytes, exit_status: int, signature_class: str) -> Signature:
        return judge(
            output,
            exit_status=exit_status,
            signature_class=signature_class,
            allowed=self._allowed,
            strengths=self._strengths,
            at=self._at,
        )

    @property
    def is_there(self) -> bool:
        """Whether its home still exists."""
        return self._home.is_dir()

    def close(self) -> None:
        """Remove the home. No agent was ever started for it."""
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> "Keyring":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def read_keys(data: bytes, tmpdir: Path) -> Tuple[PublicKey, ...]:
    """The public keys of a key file, in the file's order.

    Raises MalformedError for a file without a key, with a private key or with a key GnuPG does not accept,
    UnsupportedError for keys of versions other than 4.
    """
    order = [name for name, _ in _usable_keys(data, where="key file")]
    with Keyring([data], tmpdir) as keyring:
        return tuple(sorted(keyring.keys, key=lambda key: order.index(key.fingerprint)))


def fingerprints(data: bytes, *, where: str) -> Tuple[str, ...]:
    """The primary fingerprints in a key file, by its structure alone; errors as :func:`read_keys`."""
    return tuple(name for name, _ in _usable_keys(data, where=where))


def _usable_keys(data: bytes, *, where: str) -> List[Tuple[str, bytes]]:
    """Fingerprint and packets of each version 4 key of a key file."""
    if len(data) > LIMITS.key_file:
        raise MalformedError(f"a key file of {len(data)} bytes is too large", where=where)
    keys = split_keys(key_material(data, where=where), where=where)
    usable = [(fingerprint(key[0]), b"".join(packet.raw for packet in key)) for key in keys if fingerprint(key[0])]
    if not usable:
        versions = ", ".join(str(key[0].version) for key in keys)
        what: RespinError = MalformedError("there is no OpenPGP public key in it", where=where)
        if keys:
            what = UnsupportedError(
                f"the key has OpenPGP version {versions}; only version 4 is supported",
                where=where,
                remedy="ask its owner for a version 4 key (RSA, Ed25519)",
            )
        raise what
    return usable


def _single_signature(signature: bytes) -> bytes:
    """The one signature packet that ``signature``, armored or binary, must be."""
    if len(signature) > LIMITS.signature:
        raise MalformedError(f"a signature of {len(signature)} bytes is too large")
    data = signature
    if signature[:1] and not signature[0] & 0x80:
        data = dearmor(signature, b"PGP SIGNATURE", where="signature")
    found = list(packets(data, where="signature"))
    if len(found) != 1:
        raise MalformedError(f"there are {len(found)} OpenPGP packets where one signature is expected")
    if found[0].tag != SIGNATURE:
        raise MalformedError(f"there is an OpenPGP packet of type {found[0].tag} where a signature is expected")
    if found[0].version not in (3, 4):
        raise UnsupportedError(f"OpenPGP signatures of version {found[0].version} are not supported")
    return found[0].raw
