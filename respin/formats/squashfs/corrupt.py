"""The package's own signal for a block that cannot be decompressed; it becomes a MalformedError that says where."""

from __future__ import annotations


class CorruptBlock(Exception):  # noqa: N818 - never leaves the package
    """A compressed block is damaged, or holds more than it may."""
