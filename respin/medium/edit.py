"""Changes of the medium as data: files with other content, and bytes replaced where they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Tuple

from respin.byteview import ByteView
from respin.errors import BuildError
from respin.formats.iso9660.fields import BLOCK
from respin.formats.iso9660.image import IsoImage
from respin.segments import Copy, Data, Segment, SegmentsView, total


@dataclass(frozen=True)
class Edited:
    """One thing that changes: ``place`` names it (a path, or image:path), ``why`` is the reason as a stable word."""

    place: str
    why: str
    detail: str = ""

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"place": self.place, "why": self.why, **({"detail": self.detail} if self.detail else {})}


@dataclass(frozen=True)
class MediumEdit:
    """All changes. ``files`` are contents by path, their copies counted from the start of the vendor's ISO.

    ``patches`` are bytes that take the place of as many of the vendor's, by their offset in the vendor's ISO: for what
    is no file of the tree, and for images that keep their size.
    """

    files: Mapping[str, Tuple[Segment, ...]] = field(default_factory=dict)
    patches: Mapping[int, bytes] = field(default_factory=dict)
    edited: Tuple[Edited, ...] = ()

    @property
    def sizes(self) -> Mapping[str, int]:
        """The new size of every file with other content."""
        return {path: total(segments) for path, segments in self.files.items()}

    def joined(self, other: "MediumEdit") -> "MediumEdit":
        """Both; BuildError when they change the same file or bytes."""
        if set(self.files) & set(other.files) or set(self.patches) & set(other.patches):
            both = sorted(set(self.files) & set(other.files))
            raise BuildError(f"two changes of the ISO want the same file: {', '.join(both) or 'a boot image'}")
        return MediumEdit({**self.files, **other.files}, {**self.patches, **other.patches}, self.edited + other.edited)

    def changed_paths(self, iso: IsoImage) -> FrozenSet[str]:
        """The files of the vendor's tree whose bytes change, under all their names."""
        blocks = {iso.files[path].lba for path in self.files}
        return frozenset(
            path
            for path, file in iso.files.items()
            if file.lba in blocks or any(self._patched(one.lba * BLOCK, one.size) for one in file.extents)
        )

    def view(self, iso: IsoImage, path: str) -> ByteView:
        """The new content of a file of the tree."""
        old = iso.file_view(path)
        if path in self.files:
            return SegmentsView(self.files[path], iso.view, old.name)
        return SegmentsView(list(overlaid([Copy(old.offset, old.size)], self.patches)), iso.view, old.name)

    def _patched(self, start: int, size: int) -> bool:
        return any(offset < start + size and start < offset + len(data) for offset, data in self.patches.items())


NOTHING = MediumEdit()


def overlaid(segments: Iterable[Segment], patches: Mapping[int, bytes]) -> Iterator[Segment]:
    """``segments`` with the patched bytes of the base replaced wherever they are copied."""
    ranges = sorted((offset, offset + len(data), data) for offset, data in patches.items())
    for segment in segments:
        if not isinstance(segment, Copy):
            yield segment
            continue
        position, end = segment.offset, segment.offset + segment.length
        for start, stop, data in ranges:
            if stop <= position or start >= end:
                continue
            first, last = max(start, position), min(stop, end)
            if first > position:
                yield Copy(position, first - position)
            yield Data(data[first - start : last - start])
            position = last
        if position < end:
            yield Copy(position, end - position)


def require_applied(segments: Iterable[Segment], patches: Mapping[int, bytes], name: str) -> None:
    """BuildError unless every patched byte of the base is copied somewhere in ``segments``."""
    copied: List[Tuple[int, int]] = sorted(
        (one.offset, one.offset + one.length) for one in segments if isinstance(one, Copy)
    )
    for offset, data in sorted(patches.items()):
        position = offset
        for start, end in copied:
            if start <= position < end:
                position = end
        if position < offset + len(data):
            raise BuildError("a boot image lies in what is replaced by something else", where=f"{name}, byte {offset}")
