"""The one place that looks at the environment for a date. Nothing else in respin reads a clock for what it builds."""

from __future__ import annotations

import os
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
