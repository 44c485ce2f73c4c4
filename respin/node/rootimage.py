"""The two ways in which a Node's squashfs holds the root: as one ext image inside it, or flat, as a tree of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.nested import NestedView
from respin.formats.squashfs.root import SquashfsRoot

# Of a root image's decompressed blocks; a build has two Nodes open at once.
CACHE = 24 << 20


@dataclass(frozen=True)
class NestedRoot:
    """A squashfs that holds an ext image: the file that it is, its decompressed bytes, its tree."""

    squashfs: SquashfsImage
    file: SquashfsFile
    nested: NestedView
    tree: ExtImage

    @classmethod
    def open(cls, squashfs: SquashfsImage, file: SquashfsFile, cache_size: int = CACHE) -> "NestedRoot":
        """Open the image in ``file``; MalformedError when it is damaged."""
        nested = squashfs.open_file(file.path, cache_size=cache_size)
        return cls(squashfs, file, nested, ExtImage.open(nested))

    def reopened(self) -> "NestedRoot":
        """The same once more, for another thread."""
        nested = self.squashfs.open_file(self.file.path)
        return NestedRoot(self.squashfs, self.file, nested, ExtImage.open(nested))

    @property
    def inner_path(self) -> str:
        """The path of the ext image in the squashfs."""
        return self.file.path

    @property
    def inner_size(self) -> int:
        """Bytes of the ext image."""
        return self.file.size


@dataclass(frozen=True)
class FlatRoot:
    """A squashfs that is the root itself."""

    squashfs: SquashfsImage
    tree: SquashfsRoot

    @classmethod
    def open(cls, squashfs: SquashfsImage) -> "FlatRoot":
        """The root in ``squashfs``."""
        return cls(squashfs, SquashfsRoot(squashfs))

    def reopened(self) -> "FlatRoot":
        """The same once more, for another thread."""
        return FlatRoot.open(SquashfsImage.open(self.squashfs.view))

    @property
    def inner_path(self) -> str:
        """Empty: there is no image inside."""
        return ""

    @property
    def inner_size(self) -> int:
        """Zero: there is no image inside."""
        return 0


RootImage = Union[NestedRoot, FlatRoot]


def open_root_image(squashfs: SquashfsImage, file: Optional[SquashfsFile]) -> RootImage:
    """The root in ``squashfs``: the ext image that is ``file``, or the squashfs itself without one."""
    return FlatRoot.open(squashfs) if file is None else NestedRoot.open(squashfs, file)
