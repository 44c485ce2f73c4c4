"""Each verdict word with its meaning and its remedy, for messages and for docs/reference/trust.md."""

from __future__ import annotations

from typing import Mapping, NamedTuple

from respin.formats.openpgp import Verdict


class Explanation(NamedTuple):
    """What a verdict means, and what the reader can do."""

    meaning: str
    remedy: str


EXPLANATIONS: Mapping[Verdict, Explanation] = {
    Verdict.GOOD: Explanation("every signature and digest is right", "nothing to do"),
    Verdict.UNSIGNED: Explanation("there is no signature", "ask the author for a signed file"),
    Verdict.NOKEY: Explanation(
        "the signature was made by a key that is not trusted for this",
        "get the signer's key, compare its fingerprint by another way, and add it with `respin keys add`",
    ),
    Verdict.EXPKEY: Explanation(
        "the signing key, or the signature itself, has expired",
        "get the signer's renewed key or a new signature; or accept it by allow-expired for this key in policy.toml",
    ),
    Verdict.REVKEY: Explanation(
        "the signing key was revoked by its owner", "get a file signed with the owner's new key"
    ),
    Verdict.FUTURE: Explanation(
        "the signature was made after the time that it is judged at",
        "judge at a later time, or now (without --at)",
    ),
    Verdict.WEAK: Explanation(
        "the signature relies on a broken hash (MD5, SHA-1, RIPEMD-160) or on an RSA or DSA key below 2048 bits",
        "ask the author to sign anew with SHA-256 and a longer key; or accept it by allow-weak for this key in"
        " policy.toml",
    ),
    Verdict.BADSIG: Explanation(
        "the bytes are not what was signed", "the file was changed; fetch it again from its author"
    ),
    Verdict.BADDIGEST: Explanation(
        "the file does not match its own digests", "the file is damaged; fetch it again from its author"
    ),
    Verdict.PAYLOAD_NOT_COVERED: Explanation(
        "the signature covers the RPM's header, but nothing signed covers its files",
        "do not use this file; ask the author for an RPM with a payload digest (rpm 4.14 or newer makes them)",
    ),
    Verdict.MALFORMED: Explanation(
        "the file or its signature is not built as its specification demands", "fetch the file again from its author"
    ),
    Verdict.UNSUPPORTED: Explanation(
        "the signature is of a kind that this machine's GnuPG or rpm cannot check",
        "ask the author to sign with an RSA or Ed25519 primary key, as OpenPGP version 4",
    ),
}
