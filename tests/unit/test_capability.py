"""File capabilities as text and as extended attribute, held against libcap's own words for them."""

from __future__ import annotations

import struct

import pytest

from respin.errors import UnsupportedError
from respin.formats import capability


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cap_net_raw=ep", (0x02000001, 1 << 13, 0, 0, 0)),
        ("= cap_net_raw+ep", (0x02000001, 1 << 13, 0, 0, 0)),
        ("cap_net_raw=p", (0x02000000, 1 << 13, 0, 0, 0)),
        ("cap_chown,cap_bpf=eip", (0x02000001, 1, 1, 1 << 7, 1 << 7)),
        ("cap_chown=ep cap_kill+i", (0x02000001, 1, 1 << 5, 0, 0)),
        ("cap_chown,cap_kill=ep cap_kill-ep", (0x02000001, 1, 0, 0, 0)),
        ("=", (0x02000000, 0, 0, 0, 0)),
    ],
)
def test_text_becomes_the_attribute(text: str, words: "tuple[int, ...]") -> None:
    assert struct.unpack("<5I", capability.from_text(text)) == words


@pytest.mark.parametrize("text", ["cap_unheard_of=ep", "cap_chown", "+ep", "cap_chown=x", "CAP_CHOWN=ep", "13=ep"])
def test_what_is_not_covered_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError):
        capability.from_text(text)
