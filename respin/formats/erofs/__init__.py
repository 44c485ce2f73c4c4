"""erofs, read only: what a live medium's root may be instead of a squashfs.

After the kernel's Documentation/filesystems/erofs.rst and its on-disk structures. Covered: compact and extended inodes,
plain, inline and chunked content, content compressed by lz4, LZMA, deflate and zstd with full and compacted indexes,
big physical clusters, inline tails, fragments, shared clusters, inline and shared attributes with long prefixes. Not
covered, and refused by name: further devices, 48-bit block numbers, compressed metadata, images without zero padding.
"""

from respin.formats.erofs.image import ErofsImage
from respin.formats.erofs.inode import ErofsInode
from respin.formats.erofs.superblock import ErofsSuperblock, is_erofs, read_superblock

__all__ = ["ErofsImage", "ErofsInode", "ErofsSuperblock", "is_erofs", "read_superblock"]
