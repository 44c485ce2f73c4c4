"""Indexing the vendor's root in a thread of its own, while other work goes on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Callable, Optional

from respin.formats.squashfs.nested import NestedView
from respin.node.metadatacopy import MetadataCopy
from respin.node.rootimage import NestedRoot, RootImage
from respin.node.treeindex import TreeIndex
from respin.progress import SILENT, Progress
from respin.spool import SparseSpool


class Indexing:
    """A running :class:`TreeIndex`. ``stack`` ends it, finished or not. A flat root needs no index.

    ``open_root`` runs in the thread, too, and must give an image that nobody else reads.
    ``spool`` is empty and gets a copy of the metadata.
    """

    def __init__(
        self, open_root: Callable[[], RootImage], stack: ExitStack, spool: Optional[SparseSpool] = None
    ) -> None:
        self._stopped = threading.Event()
        self._spool = spool
        self._nested: Optional[NestedView] = None
        self._sufficient = False
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="index"))
        stack.callback(self._stopped.set)
        self._future = pool.submit(self._run, open_root)

    def wait(self, progress: Progress = SILENT) -> Optional[TreeIndex]:
        """The index, None for a flat root; raises what the thread met."""
        if self._future.done():
            return self._future.result()
        with progress.step("reading the vendor's root"):
            return self._future.result()

    @property
    def has_metadata(self) -> bool:
        """Whether the copy of the metadata has all that e2fsck wants to see; known once :meth:`wait` returned."""
        return self._sufficient

    @property
    def blocks_read(self) -> int:
        """How many compressed blocks had to be read so far."""
        return 0 if self._nested is None else self._nested.blocks_read

    def _run(self, open_root: Callable[[], RootImage]) -> Optional[TreeIndex]:
        image = open_root()
        if not isinstance(image, NestedRoot):
            return None
        self._nested = image.nested
        metadata = None if self._spool is None else MetadataCopy(image.tree, self._spool)
        index = TreeIndex(image.tree, metadata, self._stopped)
        self._sufficient = metadata is not None and metadata.sufficient
        return index
