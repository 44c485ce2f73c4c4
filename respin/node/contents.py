"""The content of the files of one ext image, as far as a comparison reads it: each file's once, and not without end.

A few bytes may claim a great deal: blocks that many files have, holes as large as a disk, names by the thousand for one
file. What is read is counted, so that none of that takes longer than the image is large.
"""

from __future__ import annotations

from typing import Dict, Set

from respin.digest import sha256_content
from respin.errors import MalformedError, UnsupportedError
from respin.formats.ext.image import ExtImage
from respin.formats.ext.inode import ExtInode
from respin.formats.ext.shown import FINDING
from respin.limits import LIMITS


class Contents:
    """Reads files of one image and remembers their digests."""

    def __init__(self, image: ExtImage) -> None:
        self._image = image
        self._digests: Dict[int, str] = {}
        self._admitted: Set[int] = set()
        self._bytes_left = image.view.size
        self._content_left = LIMITS.content

    def admit(self, inode: ExtInode) -> None:
        """Count the bytes that a file or link takes in the image.

        Raises MalformedError when there are more than the image has: inodes share blocks, then.
        """
        if inode.number in self._admitted or inode.is_inline or not (inode.is_file or inode.is_symlink):
            return
        self._admitted.add(inode.number)
        content, described = self._image.places(inode)
        self._bytes_left -= sum(length for offset, length in content if offset is not None)
        attributes = inode.xattr_block * self._image.superblock.block_size  # several may have them
        self._bytes_left -= sum(length for offset, length in described if offset != attributes)
        if self._bytes_left < 0:
            raise MalformedError(
                "files take more bytes than the file system has",
                where=f"{self._image.view.name}, inode {inode.number}",
                remedy="the image is damaged or made to deceive; do not use it",
                finding=FINDING,
            )

    def digest(self, inode: ExtInode) -> str:
        """The SHA-256 of a file's content; UnsupportedError if all that were asked for have more than the limit."""
        found = self._digests.get(inode.number)
        if found is None:
            self._content_left -= inode.size
            if self._content_left < 0:
                raise UnsupportedError(
                    f"the files that differ have more than {LIMITS.content} bytes",
                    where=f"{self._image.view.name}, inode {inode.number}",
                    finding="too-large",
                )
            found = self._digests[inode.number] = sha256_content(self._image.file_view(inode))
        return found
