"""Indexing the vendor's root in a process of its own, while other work goes on."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Callable, Optional, Sequence, Tuple

from respin.node.beside import Beside
from respin.node.metadatacopy import MetadataCopy
from respin.node.rootimage import NestedRoot, RootImage
from respin.node.treeindex import TreeIndex
from respin.progress import SILENT, Progress
from respin.spool import SparseSpool


@dataclass(frozen=True)
class _Found:
    """What comes back: the index, whether all metadata is copied, blocks read, and what became of the spool."""

    index: Optional[TreeIndex]
    has_metadata: bool = False
    blocks_read: int = 0
    spooled: Optional[Tuple[bool, int]] = None


class Indexing:
    """A running :class:`TreeIndex`. ``stack`` ends it, finished or not. A flat root needs no index.

    ``open_root`` runs in the other process; ``keep`` are the descriptors that it reads. ``spool`` is empty, gets a copy
    of the metadata, and is not to be touched before :meth:`wait` returned.
    """

    def __init__(
        self,
        open_root: Callable[[], RootImage],
        stack: ExitStack,
        keep: Sequence[int],
        spool: Optional[SparseSpool] = None,
    ) -> None:
        self._spool = spool
        self._found: Optional[_Found] = None
        descriptors = [*keep, *(() if spool is None else spool.descriptors)]
        self._process = Beside(partial(_index, open_root, spool), stack, descriptors)

    def wait(self, progress: Progress = SILENT) -> Optional[TreeIndex]:
        """The index, None for a flat root; raises what was met on the way."""
        if self._found is None:
            if self._process.is_done:
                self._found = self._process.result()
            else:
                with progress.step("reading the vendor's root"):
                    self._found = self._process.result()
            if self._spool is not None and self._found.spooled is not None:
                self._spool.state = self._found.spooled
        return self._found.index

    @property
    def is_done(self) -> bool:
        """Whether :meth:`wait` needs no waiting to speak of."""
        return self._found is not None or self._process.is_done

    @property
    def has_metadata(self) -> bool:
        """Whether the copy of the metadata has all that e2fsck wants to see; known once :meth:`wait` returned."""
        return self._found is not None and self._found.has_metadata

    @property
    def blocks_read(self) -> int:
        """How many compressed blocks had to be read; known once :meth:`wait` returned."""
        return 0 if self._found is None else self._found.blocks_read


def _index(open_root: Callable[[], RootImage], spool: Optional[SparseSpool]) -> _Found:
    image = open_root()
    if not isinstance(image, NestedRoot):
        return _Found(None)
    metadata = None if spool is None else MetadataCopy(image.tree, spool)
    index = TreeIndex(image.tree, metadata)
    sufficient = metadata is not None and metadata.sufficient
    return _Found(index, sufficient, image.nested.blocks_read, None if spool is None else spool.state)
