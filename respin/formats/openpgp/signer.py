"""Signing with a secret key of an explicit GnuPG home, making such keys and exporting their public halves.

python-gnupg does this part. Its results are checked by what came out, not by its status words.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

import gnupg

from respin import process
from respin.errors import BuildError, RespinError, UsageError
from respin.formats.openpgp.home import OPTIONS, Agent, gpg, with_agent
from respin.formats.openpgp.packets import SIGNATURE, dearmor, packets
from respin.safepath import printable

_KEYS = "private-keys-v1.d"
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
_USER_ID = re.compile(r"(?P<name>[^<>()]{5,}?)(?: <(?P<mail>[^<>() ]+@[^<>() ]+)>)?")


class Signer:
    """Signs with the secret key ``fingerprint`` (40 hex digits, of the primary key) in ``gnupg_home``.

    UsageError when the home has no such secret key.
    """

    def __init__(self, gnupg_home: Path, fingerprint: str) -> None:
        self.gnupg_home = gnupg_home
        self.fingerprint = _checked(fingerprint)
        self._ready: Optional[Any] = None
        self._agent: Optional[Agent] = None
        if not (_has_key_file(_existing(gnupg_home), self.fingerprint) or _agent_has(gnupg_home, self.fingerprint)):
            raise UsageError(
                f"there is no secret key {self.fingerprint}",
                where=str(gnupg_home),
                remedy="name the full fingerprint of a key of this GnuPG home, or another home",
                finding="no-secret-key",
            )

    @contextmanager
    def ready(self) -> Iterator[None]:
        """For several signatures: GnuPG and its agent are got ready once, and the agent ends with the context."""
        with with_agent(self.gnupg_home) as agent:
            self._agent, self._ready = agent, _gnupg(agent.home)
            try:
                yield
            finally:
                self._agent = self._ready = None

    def done(self) -> None:
        """All signatures are made: the agent that was got ready ends while other work goes on."""
        if self._agent is not None:
            self._agent.end()
        self._agent = self._ready = None

    def sign_detached(self, data: bytes) -> bytes:
        """An armored detached signature (class 00, SHA-512) over ``data``."""
        signature = self._sign(data, detach=True, clearsign=False)
        found = list(packets(dearmor(signature, b"PGP SIGNATURE", where="new signature"), where="new signature"))
        if len(found) != 1 or found[0].tag != SIGNATURE:
            raise BuildError("GnuPG did not make exactly one signature", where=str(self.gnupg_home))
        return signature

    def clearsign(self, data: bytes) -> bytes:
        """``data``, which must be UTF-8 text, clearsigned (class 01, SHA-512)."""
        return self._sign(data, detach=False, clearsign=True)

    def _sign(self, data: bytes, *, detach: bool, clearsign: bool) -> bytes:
        with ExitStack() as stack:
            if self._ready is None:
                stack.enter_context(self.ready())
            assert self._ready is not None
            result = self._ready.sign(
                data,
                keyid=self.fingerprint,
                detach=detach,
                clearsign=clearsign,
                extra_args=["--digest-algo", "SHA512"],
            )
        if not result.data:
            raise BuildError(
                f"GnuPG did not sign: {_last_words(result)}",
                where=str(self.gnupg_home),
                remedy="unlock the key (its passphrase) in the gpg-agent of this home, and see that it has not expired",
                finding="cannot-sign",
            )
        return bytes(result.data)


def generate_key(
    gnupg_home: Path, user_id: str, *, expires_days: int = 0, key_type: str = "RSA", key_length: int = 3072
) -> str:
    """Make a key without a passphrase, for signing only, and return its fingerprint.

    ``user_id`` is ``Name <mail>`` or a name of at least five characters. ``expires_days`` 0 is a key without an end.
    RSA is the default because every rpm can verify it. The home is made (mode 0700) when it is missing.
    """
    match = _USER_ID.fullmatch(user_id)
    if match is None or not printable(user_id):
        raise UsageError(f"{user_id!r} is no user id for a key", remedy="write it as `Name <mail@example.org>`")
    try:
        gnupg_home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the GnuPG home: {error.strerror}", where=str(gnupg_home)) from error
    lines = ["%no-protection", f"Key-Type: {key_type}", f"Key-Length: {key_length}", "Key-Usage: sign"]
    lines += [f"Name-Real: {match['name']}"]
    lines += [f"Name-Email: {match['mail']}"] if match["mail"] else []
    lines += [f"Expire-Date: {expires_days}d" if expires_days else "Expire-Date: 0", "%commit", ""]
    with with_agent(gnupg_home) as agent:
        result = _gnupg(agent.home).gen_key("\n".join(lines))
    if not _FINGERPRINT.fullmatch(str(result.fingerprint)):
        raise BuildError(f"GnuPG did not make a key: {_last_words(result)}", where=str(gnupg_home))
    return str(result.fingerprint)


def export_public(gnupg_home: Path, fingerprint: str) -> bytes:
    """The public key ``fingerprint`` in ASCII armor; works on a read-only home."""
    options = ["--no-autostart", "--lock-never"]
    exported = _gnupg(_existing(gnupg_home), *options).export_keys(_checked(fingerprint), armor=True)
    if not exported:
        raise UsageError(f"there is no public key {fingerprint}", where=str(gnupg_home), finding="no-public-key")
    return str(exported).encode("ascii")


def _has_key_file(home: Path, fingerprint: str) -> bool:
    """Whether the home has a file for a secret key of ``fingerprint``, or of a subkey: then no agent need be asked."""
    listed = gpg(home, ["--with-colons", "--with-keygrip", "--list-keys", fingerprint]).stdout
    fields = [line.split(":") for line in listed.decode("utf-8", "replace").splitlines()]
    names = {kind: [one[9] for one in fields if one[0] == kind and len(one) > 9] for kind in ("fpr", "grp")}
    return names["fpr"][:1] == [fingerprint] and any((home / _KEYS / f"{grip}.key").exists() for grip in names["grp"])


def _agent_has(home: Path, fingerprint: str) -> bool:
    """Whether the agent knows the secret key: on a card, or as the agent of another machine."""
    with with_agent(home) as agent:
        return fingerprint in {key["fingerprint"] for key in _gnupg(agent.home).list_keys(secret=True)}


def _gnupg(home: Path, *options: str) -> Any:
    try:
        return gnupg.GPG(
            gpgbinary=process.find("gpg"),
            gnupghome=str(home),
            options=[*OPTIONS, *options],
            env=dict(process.CLEAN_ENVIRONMENT),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RespinError(f"python-gnupg cannot use GnuPG: {error}", where=str(home), finding="gnupg") from error


def _existing(gnupg_home: Path) -> Path:
    if not gnupg_home.is_dir():
        raise UsageError("this GnuPG home does not exist", where=str(gnupg_home), remedy="name it with --gnupg-home")
    return gnupg_home


def _checked(fingerprint: str) -> str:
    plain = fingerprint.replace(" ", "").upper()
    if not _FINGERPRINT.fullmatch(plain):
        raise UsageError(
            f"{fingerprint!r} is not a full fingerprint", remedy="give all 40 hex digits: gpg --fingerprint shows them"
        )
    return plain


def _last_words(result: Any) -> str:
    said = [line for line in str(result.stderr).splitlines() if line.startswith("gpg: ")]
    return " | ".join(line[5:] for line in said[-3:]) or "no reason given"
