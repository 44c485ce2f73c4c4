"""GnuPG's status lines to verdicts, line by line: what a hostile or a future GnuPG output must not get through."""

from __future__ import annotations

from typing import List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.formats.openpgp.judge import BINARY, judge
from respin.formats.openpgp.keylist import Strength, parse_listing
from respin.formats.openpgp.model import Signature, Verdict

PRIMARY = "A" * 24 + "0123456789ABCDEF"
SUBKEY = "B" * 24 + "FEDCBA9876543210"
COLLIDING = "C" * 24 + "0123456789ABCDEF"  # the same long key id as PRIMARY
VALID = f"VALIDSIG {PRIMARY} 2024-01-01 1704067200 0 4 0 1 8 00 {PRIMARY}"
GOOD = ["NEWSIG", f"KEY_CONSIDERED {PRIMARY} 0", "SIG_ID x 2024-01-01 1704067200",
        "GOODSIG 0123456789ABCDEF Somebody", VALID, "TRUST_FULLY 0 always"]  # fmt: skip


def judged(lines: List[str], *, exit_status: int = 0, bits: int = 4096, prefix: str = "[GNUPG:] ") -> Signature:
    return judge(
        "".join(f"{prefix}{line}\n" for line in lines).encode(),
        exit_status=exit_status,
        signature_class=BINARY,
        allowed={PRIMARY},
        strengths={PRIMARY: Strength("rsa", bits), SUBKEY: Strength("rsa", bits)},
    )


def changed(old: str, new: Optional[str]) -> List[str]:
    assert any(line.startswith(old) for line in GOOD)
    return [line.replace(old, new or "") for line in GOOD if new is not None or not line.startswith(old)]


def test_the_good_lines_are_good() -> None:
    signature = judged(GOOD)
    assert (signature.verdict, signature.primary, signature.created) == (Verdict.GOOD, PRIMARY, 1704067200)
    assert signature.hash_name == "sha256"
    assert signature.validated


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([], Verdict.MALFORMED),
        (["NODATA 4"], Verdict.MALFORMED),
        (changed("NEWSIG", None), Verdict.MALFORMED),
        (["NEWSIG", *GOOD], Verdict.MALFORMED),
        (GOOD + GOOD, Verdict.MALFORMED),
        ([*GOOD, GOOD[3]], Verdict.MALFORMED),
        (changed("GOODSIG", None), Verdict.MALFORMED),
        (changed("VALIDSIG", None), Verdict.BADSIG),
        ([*GOOD, VALID], Verdict.BADSIG),
        (changed("GOODSIG", "BADSIG"), Verdict.BADSIG),
        (changed("GOODSIG", "EXPSIG"), Verdict.EXPKEY),
        (changed("GOODSIG", "EXPKEYSIG"), Verdict.EXPKEY),
        (changed("GOODSIG", "REVKEYSIG"), Verdict.REVKEY),
        ([*GOOD, "EXPKEYSIG 0123456789ABCDEF x"], Verdict.MALFORMED),
        ([*GOOD, "ERRSIG 0123456789ABCDEF 1 8 00 1 9"], Verdict.MALFORMED),
        ([*GOOD, "FAILURE gpg-exit 33554433"], Verdict.UNSUPPORTED),
        ([*GOOD, "SOMETHING_NEW 1"], Verdict.UNSUPPORTED),
        ([*GOOD, "DECRYPTION_OKAY"], Verdict.UNSUPPORTED),
        (["NEWSIG", "ERRSIG 0123456789ABCDEF 1 8 00 1 9 -", "NO_PUBKEY 0123456789ABCDEF"], Verdict.NOKEY),
        (["NEWSIG", "ERRSIG 0123456789ABCDEF 1 8 00 1 4 -"], Verdict.UNSUPPORTED),
        (["NEWSIG", "ERRSIG 0123456789ABCDEF 1 1 00 1 5 -"], Verdict.WEAK),
        (["NEWSIG", "ERRSIG 0123456789ABCDEF 1 8 00 1 1 -"], Verdict.BADSIG),
        (["NEWSIG", "ERRSIG"], Verdict.BADSIG),
        (["NEWSIG", "GOODSIG", "VALIDSIG"], Verdict.BADSIG),
        ([line.replace(" 8 00 ", " 8 01 ") for line in GOOD], Verdict.UNSUPPORTED),
        ([line.replace(" 8 00 ", " 2 00 ") for line in GOOD], Verdict.WEAK),
        ([line.replace(" 8 00 ", " 1 00 ") for line in GOOD], Verdict.WEAK),
        ([line.replace(" 8 00 ", " 99 00 ") for line in GOOD], Verdict.UNSUPPORTED),
        ([line.replace(PRIMARY, COLLIDING) for line in GOOD], Verdict.NOKEY),
        ([line.replace(f"00 {PRIMARY}", f"00 {COLLIDING}") for line in GOOD], Verdict.NOKEY),
        ([line.replace(f"VALIDSIG {PRIMARY}", f"VALIDSIG {COLLIDING}") for line in GOOD], Verdict.NOKEY),
    ],
)
def test_any_other_line_is_a_refusal(lines: List[str], verdict: Verdict) -> None:
    assert judged(lines).verdict is verdict


def test_exit_status_prefix_and_key_size_count() -> None:
    assert judged(GOOD, exit_status=1).verdict is Verdict.BADSIG
    assert judged(GOOD, prefix="gpg: [GNUPG:] ").verdict is Verdict.MALFORMED
    assert judged(GOOD, bits=1024).verdict is Verdict.WEAK


def test_a_subkey_counts_as_its_primary_key() -> None:
    signature = judged([line.replace(f"VALIDSIG {PRIMARY}", f"VALIDSIG {SUBKEY}") for line in GOOD])
    assert (signature.verdict, signature.primary, signature.signing_key) == (Verdict.GOOD, PRIMARY, SUBKEY)


def test_all_problems_are_kept_and_the_worst_is_the_word() -> None:
    lines = [line.replace("GOODSIG", "EXPKEYSIG").replace(" 8 00 ", " 2 00 ") for line in GOOD]
    signature = judged(lines, bits=1024)
    assert (signature.verdict, signature.problems) == (Verdict.EXPKEY, (Verdict.EXPKEY, Verdict.WEAK))
    assert signature.validated


def test_user_ids_cannot_forge_lines() -> None:
    """Only a line feed ends a line: other characters that Python calls line ends don't."""
    for separator in ("\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"):
        lines = ["NEWSIG", f"BADSIG 0123456789ABCDEF x{separator}[GNUPG:] {VALID}"]
        assert judged(lines).verdict is Verdict.BADSIG


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*GOOD, "BADSIG 0 x", "EXPKEYSIG 0 x", "ERRSIG 0 1", "NODATA 1", "VALIDSIG"])))
def test_good_needs_exactly_the_good_lines(lines: List[str]) -> None:
    if judged(lines).verdict is Verdict.GOOD:
        counts = [sum(line.split()[0] == word for line in lines) for word in ("NEWSIG", "GOODSIG", "VALIDSIG")]
        assert counts == [1, 1, 1]
        assert not {"BADSIG", "EXPKEYSIG", "ERRSIG", "NODATA"} & {line.split()[0] for line in lines}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="pubsfdri:0123456789\n\\x", max_size=200))
def test_listings_never_fail(text: str) -> None:
    parse_listing(text)
