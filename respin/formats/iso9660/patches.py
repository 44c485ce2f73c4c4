"""Changed bytes: edits, given by their place in the old image, and patches, by their place in the new one."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError
from respin.formats.iso9660.blockmap import BlockMap


class Edit(NamedTuple):
    """New bytes for a structure that stands at byte ``offset`` of the old image; ``what`` names the structure."""

    offset: int
    data: bytes
    what: str


class Patch(NamedTuple):
    """New bytes at byte ``offset`` of the new image; ``what`` names the structure."""

    offset: int
    data: bytes
    what: str

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class PatchSet:
    """Collects edits that change something and turns them into patches."""

    def __init__(self, view: ByteView, blocks: BlockMap) -> None:
        self._view = view
        self._blocks = blocks
        self._patches: Dict[int, Patch] = {}

    def edit(self, edit: Edit) -> None:
        """Add ``edit`` unless the old image has these bytes already."""
        if self._view.read(edit.offset, len(edit.data)) != edit.data:
            self.change(edit)

    def change(self, edit: Edit) -> None:
        """Add ``edit``, which gives a number that was read from the old image another value."""
        self.add(Patch(self._blocks.byte(edit.offset), edit.data, edit.what))

    def add(self, patch: Patch) -> None:
        """Add ``patch``. Two trees may share a structure: the same patch twice is one."""
        present = self._patches.setdefault(patch.offset, patch)
        if present.data != patch.data:
            raise self._clash(patch)

    def finish(self) -> Tuple[Patch, ...]:
        """All patches in order; MalformedError when two structures of the image overlap."""
        ordered = [self._patches[offset] for offset in sorted(self._patches)]
        for before, after in zip(ordered, ordered[1:]):
            if before.end > after.offset:
                raise self._clash(after)
        return tuple(ordered)

    def _clash(self, patch: Patch) -> MalformedError:
        return MalformedError(
            f"two structures of the image share bytes ({patch.what}, byte {patch.offset} of the output)",
            where=self._view.name,
            remedy="the image is damaged or was made to deceive; compare its checksum with the vendor's",
        )
