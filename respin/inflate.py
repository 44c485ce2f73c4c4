"""Decompression of deflate streams (RFC 1950 to 1952) by the quicker library that is there: ISA-L, else zlib.

Both give the same bytes for the same stream, ISA-L in less than half the time. Which damaged streams they refuse
differs.
"""

from __future__ import annotations

import zlib
from typing import Any, Callable, Tuple

ERRORS: Tuple[Any, ...]
"""What a decompressor raises for a damaged stream."""

decompressobj: Callable[..., Any]
"""As zlib.decompressobj: ``wbits`` 15 for zlib's wrapping, which is the default, 31 for gzip's."""

try:
    from isal import isal_zlib
except ImportError:
    decompressobj, ERRORS = zlib.decompressobj, (zlib.error,)
else:
    decompressobj, ERRORS = isal_zlib.decompressobj, (isal_zlib.error, zlib.error)
