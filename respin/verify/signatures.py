"""All signatures in the slot: every one is judged, one by a trusted key must count, and none may be bad.

A statement may be countersigned by parties that the verifier has never heard of: a signature by an unknown key says
nothing, for or against. One that is broken says that somebody changed the slot, or signed another statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Type

from respin.errors import PolicyError, RespinError, VerificationError
from respin.formats import dsse
from respin.formats.openpgp import Signature, Verdict
from respin.trust import Role, TrustedSignature, TrustStore

GOOD = "good"
_WORDS: Mapping[Verdict, str] = {
    Verdict.NOKEY: "unknown key",
    Verdict.EXPKEY: "expired",
    Verdict.REVKEY: "revoked key",
    Verdict.FUTURE: "made later",
    Verdict.WEAK: "weak",
    Verdict.UNSUPPORTED: "unsupported",
}
# No reader that holds the key could call these anything but a broken signature.
_BROKEN = frozenset({Verdict.BADSIG, Verdict.MALFORMED, Verdict.UNSIGNED})


@dataclass(frozen=True)
class JudgedSignature:
    """One signature of the slot. ``word`` is its verdict; ``trusted`` is set when it counts.

    ``key`` is the fingerprint of the key that made it; for a key that is not at hand, what the signature or the
    envelope says of it, which proves nothing.
    """

    word: str
    key: str
    trusted: Optional[TrustedSignature]

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        found: Dict[str, Any] = {"verdict": self.word, "key": self.key, "counts": self.trusted is not None}
        if self.trusted is not None:
            found["user_ids"] = list(self.trusted.key.public.user_ids)
            found["tier"] = self.trusted.key.tier
            found["signed_at"] = self.trusted.signature.created
        return found


@dataclass(frozen=True)
class JudgedSignatures:
    """All of them, in the order of the slot; ``trusted`` is the first that counts."""

    trusted: TrustedSignature
    judged: Tuple[JudgedSignature, ...]


def judge_signatures(
    envelope: dsse.Envelope, subject: str, trust: TrustStore, *, where: str, tmpdir: Path
) -> JudgedSignatures:
    """Judge every signature over the envelope's payload by the trusted keys of role respin.

    Raises VerificationError when there is none, when one is broken, or when none counts; PolicyError when the only
    ones that would count are by keys that may not sign ``subject``.
    """
    if not envelope.signatures:
        raise VerificationError(
            "the statement is not signed",
            where=where,
            remedy="sign it with `respin sign`; an unsigned respin proves nothing about who made it",
            finding="unsigned",
        )
    judged: List[JudgedSignature] = []
    refusals: List[RespinError] = []
    keyring = trust.keyring(Role.RESPIN, tmpdir)
    found = [keyring.verify_detached(one.sig, envelope.signed_bytes) for one in envelope.signatures]
    for number, (one, signature) in enumerate(zip(envelope.signatures, found), 1):
        if signature.verdict in _BROKEN:
            raise _broken(number, one, signature, where)
        if signature.primary and one.keyid not in (signature.primary, signature.signing_key):
            # No signature covers the name, and `respin sign` replaces signatures by it
            raise VerificationError(
                f"signature {number} of the slot is by {signature.primary}, but filed under {one.keyid or 'no key'}",
                where=where,
                remedy="somebody changed the slot; get the ISO again from its maker",
                finding="bad-slot",
            )
        word, trusted = _WORDS.get(signature.verdict, GOOD), None
        try:
            trusted = trust.judge(Role.RESPIN, subject, signature, where=where)
        except VerificationError as error:
            refusals.append(error)
        except PolicyError as error:
            word = "out of scope"
            refusals.append(error)
        judged.append(JudgedSignature(word, signature.primary or signature.signing_key or one.keyid, trusted))
    counting = [one.trusted for one in judged if one.trusted is not None]
    if not counting:
        # Of a key that is trusted there is more to say than of one that is not known.
        refusals.sort(key=lambda one: one.finding == Verdict.NOKEY.value.lower())
        first, kind = refusals[0], _kind(refusals[0])
        also = [str(one) for one in refusals[1:]]
        raise kind(first.what, where=where, remedy=first.remedy, finding=first.finding, also=also)
    return JudgedSignatures(counting[0], tuple(judged))


def _kind(error: RespinError) -> Type[RespinError]:
    return PolicyError if isinstance(error, PolicyError) else VerificationError


def _broken(number: int, one: dsse.EnvelopeSignature, signature: Signature, where: str) -> VerificationError:
    return VerificationError(
        f"{signature.verdict}: signature {number} of the slot, filed under {one.keyid or 'no key'}, is not a signature"
        f" over this statement ({signature.detail})",
        where=where,
        remedy="somebody changed the slot; get the ISO again from its maker",
        finding=signature.verdict.value.lower(),
    )
