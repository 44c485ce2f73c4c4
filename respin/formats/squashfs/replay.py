"""What a splice must have made, where somebody else compressed: the same steps, with the blocks that are there.

Another version of a compressor makes other bytes of the same content, so a spliced image is not compared with one
that is spliced anew. Instead the splice is made once more of the blocks that the image in question stores. What then
stands at any byte follows from the vendor's image and from the contents of those blocks.
"""

from __future__ import annotations

from typing import Dict, Optional, Sequence

from respin.errors import UnsupportedError
from respin.formats.squashfs.changes import ChangedFragment, Changes, Encoded
from respin.formats.squashfs.decodable import require_decodable
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.formats.squashfs.lookup import STORED_BIT
from respin.formats.squashfs.metadata import malformed, read_metadata_block
from respin.formats.squashfs.splice import SplicedSquashfs, spliced
from respin.formats.squashfs.superblock import METADATA_SIZE
from respin.limits import LIMITS


def replay(output: SquashfsImage, base: SquashfsImage, path: str, same: Sequence[bool]) -> SplicedSquashfs:
    """The image that :func:`splice_file` makes of ``base`` if changed blocks are stored as ``output`` has them.

    ``same`` tells of each block of the file at ``path`` whether both images store it as the same bytes. Raises
    MalformedError where a metadata block of ``output`` does not hold what it must, UnsupportedError for more changes
    than fit into memory.
    """
    mine, theirs = output.file(path), base.file(path)
    grown = mine.size > theirs.size
    blocks: Dict[int, Encoded] = {}
    changed = [number for number, alike in enumerate(same[: len(mine.blocks)]) if not alike]
    stored = sum(mine.blocks[number].stored_size for number in changed)
    if stored > LIMITS.changed_blocks:  # they are held in memory, as by a build
        raise UnsupportedError(
            f"blocks with {stored} bytes differ from the vendor's, more than the limit of {LIMITS.changed_blocks}",
            where=output.view.name,
            finding="too-large",
        )
    for number in changed:
        block = mine.blocks[number]
        blocks[number] = Encoded(output.view.read(block.offset, block.stored_size), mine.blocks.sizes[number])
    fragment = None if grown or all(same[len(mine.blocks) :]) else _fragment(output, mine, base, theirs)

    def pack(position: int, content: bytes, _store: bool) -> bytes:
        found = read_metadata_block(output.view, output.codec, position, output.superblock.bytes_used)
        if found.content != content:
            raise malformed(output.view, position, "a metadata block does not hold what the vendor's becomes")
        stored = output.view.read(position, found.stored)
        if not stored[1] & 0x80:  # compressed: would Linux read it, too?
            require_decodable(output, [(position + 2, found.stored - 2, METADATA_SIZE)])
        return stored

    return spliced(base, theirs, Changes(blocks, fragment), mine.size, pack)


def _fragment(
    output: SquashfsImage, mine: SquashfsFile, base: SquashfsImage, theirs: SquashfsFile
) -> Optional[ChangedFragment]:
    """The fragment block that holds the tail end of both, if that changed and nothing else in it did."""
    if mine.fragment is None or theirs.fragment is None or mine.fragment != theirs.fragment:
        return None  # then the inode is another, which shows in its table
    new, old = output.fragments[mine.fragment.fragment], base.fragments[theirs.fragment.fragment]
    contents = [image.fragments.content(block) for image, block in ((output, new), (base, old))]
    start = mine.fragment.offset
    end = start + mine.size % output.block_size
    if contents[0][:start] + contents[0][end:] != contents[1][:start] + contents[1][end:]:
        raise malformed(output.view, new.offset, "a fragment block has more changes than the end of one file")
    stored = output.view.read(new.offset, new.stored_size)
    field = new.stored_size | (0 if new.is_compressed else STORED_BIT)
    return ChangedFragment(mine.fragment.fragment, old.offset, old.stored_size, Encoded(stored, field))
