"""Who signs a statement, here or elsewhere: a key in a GnuPG home or a program, and a look at what came out of it."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Union

from respin.bundle import CommandSigner
from respin.bundle.signer import canonical_signature
from respin.errors import BuildError, UsageError
from respin.formats.openpgp import Keyring, Signer, Verdict, export_public


@dataclass(frozen=True)
class Signatory:
    """A key by its full fingerprint, and where it is: ``gnupg_home`` holds it, or ``command`` is a program that signs.

    With a command, a ``gnupg_home`` that holds the public key has the signatures checked before they are written.
    """

    key: str
    gnupg_home: Optional[Path] = None
    command: Optional[str] = None


class CheckedSigner:
    """Signs by a GnuPG home or a command, in the one spelling of a signature, and checks what came out if it can."""

    def __init__(self, signatory: Signatory, tmpdir: Path) -> None:
        self._tmpdir = tmpdir
        self._signer: Union[Signer, CommandSigner]
        self._public: Optional[bytes] = None
        if signatory.command is None:
            if signatory.gnupg_home is None:
                raise UsageError(
                    "there is nothing to sign with",
                    remedy="say where the key is (--gnupg-home DIR), or name a program that signs (--signer CMD)",
                )
            self._signer = Signer(signatory.gnupg_home, signatory.key)
        else:
            self._signer = CommandSigner(signatory.command)
        if signatory.gnupg_home is not None:
            self._public = export_public(signatory.gnupg_home, signatory.key)
        self.fingerprint = signatory.key.replace(" ", "").upper()
        if len(self.fingerprint) != 40 or set(self.fingerprint) - set("0123456789ABCDEF"):
            raise UsageError(f"{signatory.key!r} is not a full fingerprint", remedy="give all 40 hex digits with --key")

    @property
    def checked(self) -> bool:
        """Whether signatures are checked with the public key."""
        return self._public is not None

    def sign_detached(self, data: bytes) -> bytes:
        """An armored detached signature over ``data``; BuildError when there is none, or not a good one by the key."""
        signature = canonical_signature(self._signer.sign_detached(data), where="the new signature")
        if self._public is not None:
            with Keyring([self._public], self._tmpdir) as keyring:
                judged = keyring.verify_detached(signature, data)
            if judged.verdict is not Verdict.GOOD or judged.primary != self.fingerprint:
                raise BuildError(
                    f"the new signature is not a good one by {self.fingerprint}: {judged.verdict} ({judged.detail})",
                    where="the new signature",
                    remedy="sign with the key that --key names, over exactly the bytes on standard input;"
                    " nothing was changed",
                    finding="cannot-sign",
                )
        return signature

    def checksum(self, text: bytes) -> List[bytes]:
        """The signed CHECKSUM: one clearsigned file, or the text and its detached signature.

        A clearsigned text has a signature of another class (RFC 4880, section 5.2.1) than a program makes that signs
        the bytes on its standard input.
        """
        if isinstance(self._signer, Signer):
            return [self._signer.clearsign(text)]
        return [text, self.sign_detached(text)]


def lock(fd: int, path: Path) -> None:
    """Have an ISO and what stands beside it to oneself until ``fd`` is closed; BuildError when somebody else does.

    Two that sign at once would each lose the other's signature.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BuildError(
            "somebody else is signing this ISO right now", where=str(path), remedy="try again", finding="locked"
        ) from error
