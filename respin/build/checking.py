"""e2fsck on the new root, beside everything else: it begins when the copy of the metadata that it reads is complete."""

from __future__ import annotations

from respin.node.indexing import Indexing
from respin.progress import SILENT, Progress
from respin.root.install import Installation


class Checking:
    """The check that ``installation`` still has to pass; ``indexing`` makes the copy."""

    def __init__(self, installation: Installation, indexing: Indexing) -> None:
        self._installation = installation
        self._indexing = indexing
        self._begun = False

    def begin(self) -> None:
        """Begin if that needs no waiting. To be called whenever there may be news."""
        if not self._begun and self._indexing.is_done:
            self._begin(SILENT)

    def finish(self, progress: Progress) -> int:
        """Wait for it; how many blocks were read for the copy and the check. BuildError if the root is not clean."""
        if not self._begun:
            self._begin(progress)
        return self._installation.finish(progress) + self._indexing.blocks_read

    def _begin(self, progress: Progress) -> None:
        self._begun = True
        self._indexing.wait(progress)
        self._installation.check(metadata=self._indexing.has_metadata)
