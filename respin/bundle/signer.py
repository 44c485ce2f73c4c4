"""Signing with a program of the user's: a key in an HSM, on a smart card, behind a signing service.

The one place where a child gets the caller's environment: such programs need it (PKCS#11 modules, tokens, proxies). Its
result is checked for its form only; whether the signature is good is for ``verify`` to say, with the trust store.
"""

from __future__ import annotations

import shlex
import subprocess
from typing import Sequence

from respin.errors import BuildError, MalformedError, UsageError
from respin.formats.openpgp import packets as openpgp
from respin.limits import LIMITS

ARMOR = b"PGP SIGNATURE"
_BINARY_DOCUMENT = b"\x04\x00"  # version 4, class 00: RFC 4880, sections 5.2.1 and 5.2.3


def canonical_signature(signature: bytes, *, where: str) -> bytes:
    """``signature`` in the one spelling a bundle may have it.

    That is one version 4 signature packet over a binary document, armored without headers. MalformedError when it is
    something else.
    """
    if len(signature) > LIMITS.signature:
        raise MalformedError(f"the signature has more than {LIMITS.signature} bytes", where=where, finding="too-large")
    data = openpgp.dearmor(signature, ARMOR, where=where)
    found = list(openpgp.packets(data, where=where))
    if len(found) != 1 or found[0].tag != openpgp.SIGNATURE or found[0].body[:2] != _BINARY_DOCUMENT:
        raise MalformedError("this is not one detached OpenPGP signature (version 4, class 00)", where=where)
    return openpgp.armor(data, ARMOR)


class CommandSigner:
    """Runs a command that reads what is to be signed on stdin and prints an armored detached signature on stdout.

    The command is split into words like a shell would and run without a shell, in the caller's environment; its
    messages and prompts go where the caller's do.
    """

    def __init__(self, command: str) -> None:
        try:
            self.argv: Sequence[str] = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"the signing command cannot be split into words: {error}", where=command) from error
        if not self.argv:
            raise UsageError("the signing command is empty")

    def sign_detached(self, data: bytes) -> bytes:
        """The command's signature over ``data``, checked for its form."""
        where = shlex.join(self.argv)
        try:
            done = subprocess.run(self.argv, input=data, stdout=subprocess.PIPE, check=False)
        except OSError as error:
            raise UsageError(
                f"the signing command cannot be run: {error.strerror}",
                where=where,
                remedy="name a program that is there, with its whole path if it is not in PATH",
            ) from error
        if done.returncode != 0:
            raise BuildError(
                f"the signing command ended with status {done.returncode}",
                where=where,
                remedy="see what it said above; nothing was changed",
                finding="cannot-sign",
            )
        try:
            return canonical_signature(done.stdout, where=where)
        except MalformedError as error:
            raise BuildError(
                f"what the signing command printed is no signature: {error.what}",
                where=where,
                remedy="it must print one armored detached OpenPGP signature on its standard output and nothing else",
                finding="cannot-sign",
            ) from error
