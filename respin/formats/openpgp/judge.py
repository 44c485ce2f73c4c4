"""From GnuPG's status lines (doc/DETAILS of GnuPG) to one verdict about one signature.

Exit status 0 and even GOODSIG are not enough: GnuPG reports VALIDSIG and exits 0 for expired keys, and takes SHA-1 and
short keys. A signature counts only with exactly one NEWSIG, GOODSIG and VALIDSIG, of the expected class, by a key on
the list, with a strong hash and key, and with no line that says anything else.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, Optional, Tuple

from respin.clock import show_time
from respin.formats.openpgp.keylist import Strength
from respin.formats.openpgp.model import HASHES, WEAK_HASHES, Signature, Verdict, refused

BINARY, TEXT = "00", "01"  # signature classes, RFC 4880, section 5.2.1

_OUTCOMES = ("GOODSIG", "BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG")
_NEUTRAL = {
    "NEWSIG", "VALIDSIG", "SIG_ID", "KEY_CONSIDERED", "KEYEXPIRED", "SIGEXPIRED", "KEYREVOKED", "NO_PUBKEY",
    "PLAINTEXT", "PLAINTEXT_LENGTH", "NOTATION_NAME", "NOTATION_FLAGS", "NOTATION_DATA", "POLICY_URL",
    "VERIFICATION_COMPLIANCE_MODE", "PROGRESS",
}  # fmt: skip
_NO_KEY, _BAD_DIGEST, _UNKNOWN_ALGORITHM = "9", "5", "4"  # the reasons of ERRSIG


def parse_status(output: bytes) -> List[Tuple[str, List[str]]]:
    """The status lines in ``output``: keyword and arguments. Only line feeds end a line."""
    lines = []
    for line in output.split(b"\n"):
        if line.startswith(b"[GNUPG:] "):
            keyword, *arguments = line[9:].decode("utf-8", "replace").split(" ")
            lines.append((keyword, arguments))
    return lines


def judge(
    output: bytes,
    *,
    exit_status: int,
    signature_class: str,
    allowed: Collection[str],
    strengths: Mapping[str, Strength],
    at: Optional[int] = None,
) -> Signature:
    """The verdict. ``allowed`` holds primary fingerprints; ``strengths`` is by the fingerprint of each (sub)key.

    ``at`` is the time (seconds since 1970) that GnuPG was told: it does not refuse what was signed after that.
    """
    lines = parse_status(output)
    by_keyword: Dict[str, List[List[str]]] = {}
    for keyword, arguments in lines:
        by_keyword.setdefault(keyword, []).append(arguments)
    outcomes = [(keyword, arguments) for keyword, arguments in lines if keyword in _OUTCOMES]
    strange = [keyword for keyword in by_keyword if keyword not in _OUTCOMES and keyword not in _NEUTRAL]
    strange = [keyword for keyword in strange if not keyword.startswith("TRUST_")]
    if len(by_keyword.get("NEWSIG", [])) != 1 or len(outcomes) != 1:
        said = ", ".join(strange) or f"{len(outcomes)} results"
        return refused(Verdict.MALFORMED, f"GnuPG finds no single signature ({said})")
    outcome, arguments = outcomes[0]
    key_id = arguments[0] if arguments else None
    if outcome == "ERRSIG":
        return _unchecked(arguments, at)
    if outcome == "BADSIG":
        return refused(Verdict.BADSIG, "the bytes are not what was signed", signing_key=key_id)
    valid = by_keyword.get("VALIDSIG", [])
    if len(valid) != 1 or len(valid[0]) < 10:
        return refused(Verdict.BADSIG, f"GnuPG says {outcome} but not VALIDSIG", signing_key=key_id)
    if strange and not (outcome == "EXPSIG" and strange == ["FAILURE"]):  # gpg fails for an expired signature
        return refused(Verdict.UNSUPPORTED, f"GnuPG says {', '.join(strange)}", signing_key=valid[0][0])
    return _validated(outcome, valid[0], exit_status, signature_class, allowed, strengths, at)


def _unchecked(arguments: List[str], at: Optional[int]) -> Signature:
    """ERRSIG: key id, key algorithm, hash algorithm, class, time, reason, fingerprint."""
    arguments = arguments + [""] * (7 - len(arguments))
    key = arguments[6] if arguments[6] not in ("", "-") else arguments[0]
    hash_name = _hash_name(arguments[2])
    if arguments[5] == _NO_KEY:
        return refused(Verdict.NOKEY, f"made by {key}, which is not among the given keys", signing_key=key)
    later = _later(arguments[4], at)
    if later:  # the key itself may be newer: then GnuPG does not use it
        return refused(Verdict.FUTURE, later, signing_key=key)
    if hash_name in WEAK_HASHES and arguments[5] == _BAD_DIGEST:
        return refused(Verdict.WEAK, f"GnuPG does not check {hash_name} signatures", signing_key=key)
    if arguments[5] in (_UNKNOWN_ALGORITHM, _BAD_DIGEST):
        what = f"key algorithm {arguments[1]} with hash algorithm {arguments[2]} is not supported by this GnuPG"
        return refused(Verdict.UNSUPPORTED, what, signing_key=key)
    return refused(Verdict.BADSIG, f"GnuPG cannot check it (reason {arguments[5] or 'unknown'})", signing_key=key)


def _validated(
    outcome: str,
    valid: List[str],
    exit_status: int,
    signature_class: str,
    allowed: Collection[str],
    strengths: Mapping[str, Strength],
    at: Optional[int],
) -> Signature:
    """VALIDSIG: fingerprint, date, time, expiry, version, reserved, key algorithm, hash, class, primary fingerprint."""
    signing_key, primary, hash_name = valid[0], valid[9], _hash_name(valid[7])
    strength = strengths.get(signing_key)
    if primary not in allowed or strength is None:
        return refused(Verdict.NOKEY, f"made by {signing_key}, which is not among the given keys", signing_key=primary)
    if valid[8] != signature_class:
        what = f"the signature is of class {valid[8]} where {signature_class} is expected"
        return refused(Verdict.UNSUPPORTED, what, signing_key=signing_key)
    if hash_name is None:
        return refused(Verdict.UNSUPPORTED, f"hash algorithm {valid[7]} is not known", signing_key=signing_key)
    objections: List[Tuple[Verdict, str]] = []
    if outcome == "REVKEYSIG":
        objections.append((Verdict.REVKEY, f"the key {signing_key} was revoked"))
    later = _later(valid[2], at)
    if later:
        objections.append((Verdict.FUTURE, later))
    if outcome == "EXPKEYSIG":
        objections.append((Verdict.EXPKEY, f"the key {signing_key} has expired"))
    if outcome == "EXPSIG":
        objections.append((Verdict.EXPKEY, "the signature itself has expired"))
    if hash_name in WEAK_HASHES:
        objections.append((Verdict.WEAK, f"{hash_name} is broken"))
    if strength.weak:
        objections.append((Verdict.WEAK, f"a key of {strength.bits} bits ({strength.algorithm}) is too short"))
    if outcome == "GOODSIG" and exit_status != 0:
        return refused(Verdict.BADSIG, f"GnuPG ended with exit status {exit_status}", signing_key=signing_key)
    problems = tuple(dict.fromkeys(verdict for verdict, _ in objections))
    detail = "; ".join(what for _, what in objections) or f"{hash_name} signature by {signing_key}"
    created = int(valid[2]) if valid[2].isascii() and valid[2].isdigit() else None
    verdict = problems[0] if problems else Verdict.GOOD
    return Signature(verdict, primary, signing_key, created, hash_name, detail, problems, True)


def _later(time: str, at: Optional[int]) -> str:
    """What to say if ``time``, in seconds since 1970, is not known to be before ``at``."""
    if at is None:
        return ""
    if not (time.isascii() and time.isdigit()):
        return "nobody knows when it was made"
    return f"it was made at {show_time(int(time))}, after the time of judging" if int(time) > at else ""


def _hash_name(number: str) -> Optional[str]:
    return HASHES.get(int(number)) if number.isascii() and number.isdigit() else None
