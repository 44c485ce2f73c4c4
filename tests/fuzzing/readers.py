"""Reading everything in an image through all readers; what one refuses keeps none of the others from trying."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List

from respin.byteview import BytesView, ByteView
from respin.errors import RespinError
from respin.formats.erofs import ErofsImage
from respin.formats.ext import ExtImage
from respin.formats.squashfs import Kind, PatchedView, SquashfsImage, SquashfsRoot, splice_file
from respin.formats.squashfs.extension import first_other_byte, read_extension
from respin.formats.squashfs.merge import Change, Put, Removal, merge_changes
from respin.node.consistency import is_even, require_consistent
from respin.node.ranges import Ranges
from respin.node.treediff import compare, compare_where_said
from respin.node.treeindex import TreeIndex
from respin.node.treepairs import delta_of, pairs_of_extension, visit_all
from respin.roottree import RootTree, TreeInode
from tests.fuzzing.nested import INNER
from tests.support.images import EPOCH, KiB, MiB

_SOME = 64 * KiB
Refusals = List[RespinError]


def read_flat(data: bytes, seed: bytes) -> Refusals:
    """A squashfs: as an image, as a root, beside the undamaged ``seed``, and as the base of a merge."""
    refused: Refusals = []
    view = BytesView(data, "image")
    with _step(refused):
        image = SquashfsImage.open(view)
        with _step(refused):
            for _path, inode in image.walk():
                with _step(refused):
                    image.xattrs(inode)
        with _step(refused):
            image.entries["/"]
        with _step(refused):
            root = SquashfsRoot(image)
            _read_tree(refused, root)
            with _step(refused):
                for _path, _entries in root.directories():
                    pass
        with _step(refused):
            before, after = SquashfsRoot.open(BytesView(seed, "seed")), SquashfsRoot.open(view)
            extension = read_extension(before.image, after.image)
            if extension is not None:
                first_other_byte(before.image, after.image, extension)
            if extension is not None and _modest(after):
                delta_of(before, after, pairs_of_extension(before, after, extension))
            elif _modest(after):
                visit_all(before, after, lambda path, was, now: None)
        with _step(refused):
            merge_changes(image, _changes(refused, SquashfsRoot(image)))
    return refused


def read_nested(data: bytes, seed: bytes) -> Refusals:
    """A squashfs and the ext image that it holds; and some blocks of that replaced."""
    refused: Refusals = []
    with _step(refused):
        image = SquashfsImage.open(BytesView(data, "image"))
        with _step(refused):
            for entry in image.entries.values():
                with _step(refused):
                    image.xattrs(entry.inode)
        with _step(refused):
            view = image.open_file(INNER)
            _read_ext(refused, view, SquashfsImage.open(BytesView(seed, "seed")).open_file(INNER))
            last = view.blocks_total - 1
            changed = {number: b"y" * view.block_length(number) for number in {0, last} if number in range(last + 1)}
            with _step(refused):
                patched = PatchedView(view, changed)
                patched.read(0, min(patched.size, _SOME))
            with _step(refused):
                splice_file(image, INNER, changed)
    return refused


def read_ext(data: bytes, seed: bytes) -> Refusals:
    """An ext image."""
    refused: Refusals = []
    _read_ext(refused, BytesView(data, "image"), BytesView(seed, "seed"))
    return refused


def read_erofs(data: bytes, seed: bytes) -> Refusals:
    """An erofs image."""
    refused: Refusals = []
    with _step(refused):
        image = ErofsImage.open(BytesView(data, "image"))
        _read_tree(refused, image)
        with _step(refused):
            if _modest(image):
                visit_all(ErofsImage.open(BytesView(seed, "seed")), image, lambda path, was, now: None)
    return refused


def _read_ext(refused: Refusals, view: ByteView, seed: ByteView) -> None:
    with _step(refused):
        ext = ExtImage.open(view)
        _read_tree(refused, ext)
        with _step(refused):
            for inodes in ext.used_inodes():
                for inode in inodes:
                    for ask in (ext.places, ext.map_blocks, ext.mapping_ranges, ext.xattrs):
                        with _step(refused):
                            ask(inode)
        with _step(refused):
            TreeIndex(ext).same(ext, Ranges([(0, 4 * KiB)]))
        with _step(refused):
            before = ExtImage.open(seed)
            if view.size == seed.size and _modest(ext):
                changed = Ranges([(0, view.size)]).narrowed(seed, view, ext.superblock.block_size)
                whole = compare(before, ext, changed, TreeIndex(before))
                found = compare_where_said(before, ext, changed, (entry.path for entry in whole))
                assert found is None or found.delta == whole, "the short way finds something else"
                with _step([]):  # hardly any damaged image is consistent; here it only has to come to an end
                    numbers = {*before.numbers_in_use(), *ext.numbers_in_use()}
                    require_consistent(before, ext, numbers if found is None else found.numbers, changed)
        with _step(refused):
            is_even(ext)


def _read_tree(refused: Refusals, root: RootTree[Any]) -> None:
    with _step(refused):
        for path, inode in root.walk():
            with _step(refused):
                if inode.is_file:
                    _read_some(root.file_view(inode, path))
                elif inode.is_symlink:
                    root.readlink(inode)
                    root.resolve(path)
            with _step(refused):
                root.xattrs(inode)
    for path in ("/d/noise", "/link", "/d/../link", "/nothing"):
        with _step(refused):
            root.lookup(path)
            root.resolve(path)
    with _step(refused):
        root.listdir("/d")


def _read_some(view: ByteView) -> None:
    for at in {0, view.size // 2, max(0, view.size - _SOME)}:
        assert len(view.read(at, min(_SOME, view.size - at))) == min(_SOME, view.size - at)


def _changes(refused: Refusals, root: SquashfsRoot) -> List[Change]:
    """Changes that can be made to this tree, whatever became of it: only such are ever asked for."""
    kinds: Dict[str, Kind] = {}
    with _step(refused):
        for path, inode in root.walk():
            kinds[path] = inode.kind
    directories = [path for path, kind in kinds.items() if kind is Kind.DIRECTORY]
    files = [path for path, kind in kinds.items() if kind is Kind.FILE]
    new = BytesView(b"new" * 3000, "new")
    changes: List[Change] = [Put("/", Kind.DIRECTORY, 0o700, 9, 9, 9, xattrs={"user.a": b"1"})]
    changes += [Put(f"{path.rstrip('/')}/+", Kind.FILE, 0o644, 0, 0, EPOCH, content=new) for path in directories[-2:]]
    changes += [Put(path, Kind.FILE, 0o600, 0, 0, EPOCH, content=new) for path in files[1:2]]
    return [*changes, *(Removal(path) for path in files[:1])]


def _modest(root: RootTree[Any]) -> bool:
    """Whether the files' contents are small together: hashing takes time for every byte that is claimed, holes too."""

    def claimed(inode: TreeInode) -> int:
        return inode.size if inode.is_file else 0

    return sum(claimed(inode) for _path, inode in root.walk()) < 64 * MiB


@contextlib.contextmanager
def _step(refused: Refusals) -> Iterator[None]:
    """A part of the reading that may be refused."""
    try:
        yield
    except RespinError as error:
        refused.append(error)
