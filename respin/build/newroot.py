"""The new root image: what an installation changed, compared with the vendor's, judged, and compressed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional

from respin.build.layout import NewSquashfs
from respin.byteview import ByteView, chunks
from respin.errors import RespinError
from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.extension import read_extension
from respin.formats.squashfs.inode import Kind
from respin.formats.squashfs.merge import Change, Put, Removal, merge_changes
from respin.formats.squashfs.nested import PatchedView
from respin.formats.squashfs.root import SquashfsRoot
from respin.formats.squashfs.splice import splice_file
from respin.node.ranges import Ranges
from respin.node.rootdiff import difference
from respin.node.rootimage import FlatRoot, NestedRoot, RootImage
from respin.node.treepairs import delta_of, pairs_of_extension
from respin.progress import Progress
from respin.root import delta
from respin.root.contents import FlatChanges
from respin.root.delta import Delta
from respin.root.growth import Growth
from respin.root.install import Installed
from respin.roottree import RootTree
from respin.segments import Copy, Data, Segment, SegmentsView

_KINDS: Mapping[delta.Kind, Kind] = {
    delta.Kind.FILE: Kind.FILE,
    delta.Kind.DIRECTORY: Kind.DIRECTORY,
    delta.Kind.SYMLINK: Kind.SYMLINK,
    delta.Kind.FIFO: Kind.FIFO,
}

# Gets all that differs and the new root's tree; raises to refuse.
Judge = Callable[[Delta, RootTree[Any]], None]


@dataclass(frozen=True)
class NewRoot:
    """The root image to write, its tree, all that differs in it, and how many blocks were reused and compressed.

    ``growth`` says how far the ext image in it had to be grown, if it had to.
    """

    squashfs: NewSquashfs
    tree: RootTree[Any]
    shipped: Delta
    counters: Mapping[str, int]
    growth: Optional[Growth] = None


def new_root(image: RootImage, installed: Installed, even: bool, judge: Judge, progress: Progress) -> NewRoot:
    """The vendor's root image with what was installed. ``even``: see :func:`respin.node.consistency.is_even`."""
    if isinstance(image, FlatRoot):
        return _merged(image, installed, judge, progress)
    return _spliced(image, installed, even, judge, progress)


def _spliced(image: NestedRoot, installed: Installed, even: bool, judge: Judge, progress: Progress) -> NewRoot:
    size = installed.image_size
    after = ExtImage.open(PatchedView(image.nested, installed.changed_blocks, size))
    changed = Ranges.of_blocks(installed.changed_blocks, image.nested.block_size, size)
    said = [*(entry.path for entry in installed.delta), *installed.facts]
    shipped = difference(image.tree, after, changed, said, progress, even)
    with progress.step("judging the outcome"):
        judge(shipped, after)
    with progress.step("compressing the changed blocks"):
        spliced = splice_file(image.squashfs, image.inner_path, installed.changed_blocks, size)
    return NewRoot(
        spliced,
        after,
        shipped,
        {
            "root_blocks_total": installed.counters.blocks_total,
            "root_blocks_read": installed.counters.blocks_read,
            "root_blocks_stored": spliced.counters.stored,
            "root_blocks_reused": spliced.counters.reused,
            "root_blocks_recompressed": spliced.counters.recompressed,
        },
        Growth(image.inner_size, size) if size > image.inner_size else None,
    )


def _merged(image: FlatRoot, installed: Installed, judge: Judge, progress: Progress) -> NewRoot:
    assert installed.flat is not None
    with progress.step("adding the changes to the root image"):
        merged = merge_changes(image.squashfs, flat_changes(installed.flat))
        merged = replace(merged, segments=tuple(in_order(merged.segments, image.squashfs.view)))
    with progress.step("judging the outcome"):
        after = SquashfsRoot.open(SegmentsView(merged.segments, image.squashfs.view, image.squashfs.view.name))
        extension = read_extension(image.squashfs, after.image)
        if extension is None:
            raise RespinError("the new root image does not extend the vendor's", where=image.squashfs.view.name)
        shipped = delta_of(image.tree, after, pairs_of_extension(image.tree, after, extension))
        judge(shipped, after)
    counters = merged.counters
    reused = counters.kept + counters.copied
    anew = counters.compressed + counters.fragments
    return NewRoot(
        merged,
        after,
        shipped,
        {
            "root_blocks_total": counters.blocks + counters.fragments,
            "root_blocks_read": 0,
            "root_blocks_stored": reused + anew,
            "root_blocks_reused": reused,
            "root_blocks_recompressed": anew,
        },
    )


def in_order(segments: Iterable[Segment], base: ByteView) -> Iterator[Segment]:
    """The same output with copies in ascending order only, as the one pass over the base takes them.

    What is copied a second time, blocks of a file that changed elsewhere, is read here. That nobody swaps it meanwhile
    shows when the output is verified: the file has a digest.
    """
    position = 0
    for segment in segments:
        if isinstance(segment, Copy) and segment.offset < position:
            yield from (Data(piece) for piece in chunks(base, segment.offset, segment.length))
            continue
        if isinstance(segment, Copy):
            position = segment.offset + segment.length
        yield segment


def flat_changes(changes: FlatChanges) -> Iterator[Change]:
    """What to do to a flat squashfs."""
    for entry in changes.delta:
        new = entry.new
        if new is None:
            yield Removal(entry.path)
            continue
        yield Put(
            path=entry.path,
            kind=_KINDS[new.kind],
            mode=new.mode,
            uid=new.uid,
            gid=new.gid,
            mtime=new.mtime,
            content=changes.contents.get(entry.path),
            target=new.target,
            xattrs=new.xattrs,
            link_group=entry.link_group,
        )
