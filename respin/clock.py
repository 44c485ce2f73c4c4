"""Dates: what the environment says of one, and what people write. Nothing reads a clock for what respin builds."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Mapping, Optional

from respin.errors import UsageError


def source_date_epoch(environment: Optional[Mapping[str, str]] = None) -> Optional[int]:
    """SOURCE_DATE_EPOCH in seconds since 1970, or None when it isn't set.

    Raises UsageError when it is set to something that is not a non-negative decimal number
    (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    text = (os.environ if environment is None else environment).get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 34:
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {text!r}", remedy="set it to whole seconds since 1970, or unset it", finding="usage"
        )
    return int(text)


def parse_time(text: str) -> int:
    """Seconds since 1970 of a day or time in UTC (``2026-07-01``, ``2026-07-01T12:00:00Z``); UsageError for others."""
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp())
        except ValueError:
            continue
    raise UsageError(f"{text!r} is no time", remedy="write 2026-07-01, or 2026-07-01T12:00:00Z (UTC)")


def show_time(seconds: int) -> str:
    """The time in UTC as :func:`parse_time` reads it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
