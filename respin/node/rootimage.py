"""How a Node's root image holds the root: as one ext image inside it, or flat, as a tree of its own.

A squashfs of either kind is built on. An erofs, flat or around an ext image, is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

from respin.byteview import ByteView
from respin.formats.erofs.image import ErofsImage
from respin.formats.erofs.inode import ErofsInode
from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.nested import NestedView
from respin.formats.squashfs.root import SquashfsRoot
from respin.roottree import RootTree

EXT_MAGIC_OFFSET, EXT_MAGIC = 1080, b"\x53\xef"
# An image of a root file system is a large file; smaller files in another image can't be one.
SMALLEST_ROOT = 8 << 20
_SMALL_TREE = 4096  # inodes of an erofs that may be around an image; such a one has about three
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

    @property
    def inner_path(self) -> str:
        """Empty: there is no image inside."""
        return ""

    @property
    def inner_size(self) -> int:
        """Zero: there is no image inside."""
        return 0


RootImage = Union[NestedRoot, FlatRoot]


@dataclass(frozen=True)
class ErofsRoot:
    """An erofs: the root itself, or around the ext image at ``inner_path`` (``inner_size`` bytes) that is the root."""

    erofs: ErofsImage
    tree: RootTree[Any]
    inner_path: str = ""
    inner_size: int = 0

    @classmethod
    def open(cls, view: ByteView) -> "ErofsRoot":
        """The root in the erofs image ``view``; UnsupportedError or MalformedError when it cannot be read."""
        erofs = ErofsImage.open(view)
        if erofs.superblock.inode_count <= _SMALL_TREE:
            large = [(path, inode) for path, inode in erofs.walk() if inode.is_file and inode.size >= SMALLEST_ROOT]
            inner = [(path, inode) for path, inode in large if _is_ext(erofs, inode)]
            if len(inner) == 1:
                path, inode = inner[0]
                image = erofs.file_view(inode, f"{view.name}:{path}", CACHE)
                return cls(erofs, ExtImage.open(image), path, inode.size)
        return cls(erofs, erofs)


ReadableRoot = Union[NestedRoot, FlatRoot, ErofsRoot]


def magic_at(view: ByteView, offset: int, magic: bytes) -> bool:
    """Whether ``magic`` stands at ``offset``."""
    return view.size >= offset + len(magic) and view.read(offset, len(magic)) == magic


def _is_ext(erofs: ErofsImage, inode: ErofsInode) -> bool:
    return magic_at(erofs.file_view(inode), EXT_MAGIC_OFFSET, EXT_MAGIC)


def open_root_image(squashfs: SquashfsImage, file: Optional[SquashfsFile]) -> RootImage:
    """The root in ``squashfs``: the ext image that is ``file``, or the squashfs itself without one."""
    return FlatRoot.open(squashfs) if file is None else NestedRoot.open(squashfs, file)
