"""The subject of a statement: the ISO by the digest of its covered bytes, its size, its partition tables."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Tuple

from respin.formats import intoto
from respin.formats.iso9660.moved import AREA_SIZE
from respin.provenance.layout import SLOT, STATEMENT
from respin.strictjson import Fields

MEDIA_CHECK = "media-check"
SIZE_DIGITS = 16
UNKNOWN_DIGEST = "0" * 64


@dataclass(frozen=True)
class Written:
    """What is known of an ISO when it is written: its size, the digest of the covered bytes, its partition tables."""

    size: int
    covered_sha256: str
    partition_area: bytes


# Before it is written; of the same length in a statement as any other.
UNWRITTEN = Written(0, UNKNOWN_DIGEST, bytes(AREA_SIZE))


def describe_subject(name: str, written: Written, *, media_check: bool) -> intoto.Resource:
    """The subject that stands in the statement."""
    return intoto.Resource(
        name=name,
        digest={"sha256": written.covered_sha256},
        annotations={
            # Both of one length whatever they say: the statement's size is needed before anything is laid out.
            "respin_size": f"{written.size:0{SIZE_DIGITS}}",
            "respin_partition_area": base64.b64encode(written.partition_area).decode("ascii"),
            "respin_zeroed": [f"/{STATEMENT}", f"/{SLOT}"],
            "respin_spaces": [MEDIA_CHECK] if media_check else [],
        },
    )


def parse_subject(subject: intoto.Resource, where: str) -> Tuple[bool, int, bytes]:
    """Whether the ISO has a media check; its size; the bytes with its partition tables."""
    notes = Fields(subject.annotations, where=where, place="subject", finding="bad-statement")
    zeroed, spaces = notes.texts("respin_zeroed", limit=2), notes.texts("respin_spaces", limit=1)
    size, area = notes.text("respin_size"), notes.text("respin_partition_area")
    notes.done()
    if not re.fullmatch(f"[0-9]{{{SIZE_DIGITS}}}", size):
        raise notes.bad("gives no size of the ISO")
    try:
        decoded = base64.b64decode(area, validate=True)
    except ValueError as error:
        raise notes.bad("has partition tables that are not base64") from error
    if len(decoded) != AREA_SIZE or base64.b64encode(decoded).decode("ascii") != area:
        raise notes.bad("has partition tables of another size")
    if zeroed != (f"/{STATEMENT}", f"/{SLOT}") or spaces not in ((), (MEDIA_CHECK,)):
        raise notes.bad("names other bytes than the known ones as not covered")
    return bool(spaces), int(size), decoded
