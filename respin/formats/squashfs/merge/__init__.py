"""Changing a flat squashfs without unpacking it."""

from __future__ import annotations

from respin.formats.squashfs.merge.changes import Change, Content, Put, Removal
from respin.formats.squashfs.merge.merging import MergeCounters, MergedSquashfs, merge_changes

__all__ = ["Change", "Content", "MergeCounters", "MergedSquashfs", "Put", "Removal", "merge_changes"]
