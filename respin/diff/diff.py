"""The comparison as a whole. Nothing is verified, mounted, unpacked to disk or executed; both sides are untrusted."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Mapping, Optional, Tuple

from respin.byteview import ByteView, FileView
from respin.diff.isotree import compare_boot, compare_initrds, compare_iso_files
from respin.diff.model import TITLES, Diff, Difference, Section, Side
from respin.diff.modules import pick_modules
from respin.diff.packages import compare_packages
from respin.diff.root import compare_roots
from respin.diff.structure import compare_structure, describe
from respin.errors import RespinError, UnsupportedError
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.whereis import place_of
from respin.node.base import opened
from respin.node.image import Identity, ReadableNode, identify, open_readable
from respin.node.knownprofiles import built_in
from respin.node.profile import Profile
from respin.progress import SILENT, Progress
from respin.provenance import statement
from respin.provenance.layout import STATEMENT
from respin.verify.statement import read_statement
from respin.workspace import Workspace

STEP = 1 << 20


@dataclass(frozen=True)
class Opened:
    """One of the two ISOs. ``node`` is None when its root can't be looked into; ``reason`` says why."""

    iso: IsoImage
    identity: Identity
    node: Optional[ReadableNode]
    reason: str

    @property
    def side(self) -> Side:
        """What a person would call it."""
        profile: Optional[Profile] = self.identity.profile
        plugins: Optional[Tuple[str, ...]] = None
        # What is wrong with a statement is for `respin verify` to say; its bytes are compared like any other's.
        with suppress(RespinError):
            raw, _ = read_statement(self.iso)
            claims = statement.parse(raw, where=f"{self.iso.view.name}:/{STATEMENT}")
            plugins = tuple(str(plugin["name"]) for plugin in claims.plugins)
        return Side(
            name=self.iso.view.name,
            size=self.iso.view.size,
            product=self.identity.product,
            profile=None if profile is None else profile.id,
            layout=self.identity.layout,
            plugins=plugins,
        )


def diff(a: Path, b: Path, tmpdir: Optional[Path] = None, progress: Progress = SILENT) -> Diff:
    """What differs from ISO ``a`` to ISO ``b``.

    Raises UnsupportedError for what is no ISO 9660 image, MalformedError for a damaged one. A root image of a layout
    that is not supported is compared as a file.
    """
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(tmpdir))
        views: List[FileView] = []
        for path in (a, b):
            views.append(FileView(stack.enter_context(opened(path)), str(path)))
        return diff_views(views[0], views[1], workspace.path, progress)


def diff_views(a: ByteView, b: ByteView, scratch: Path, progress: Progress = SILENT) -> Diff:
    """The same for two views; ``scratch`` is a private directory."""
    old, new = _open(a), _open(b)
    first = first_difference(a, b, (), progress) if a.size == b.size else min(a.size, b.size)
    if first is None:
        return Diff(old.side, new.side, True, tuple(Section(name) for name in TITLES))
    iso = compare_iso_files(old.iso, new.iso, progress)
    profiles = (old.identity.profile, new.identity.profile)
    files, packages = _roots(old, new, scratch, progress)
    structure = compare_structure(_described(old), _described(new))
    sections = [
        packages,
        files,
        pick_modules(files),
        compare_initrds(old.iso, new.iso, iso, profiles),
        compare_boot(old.iso, new.iso, iso, profiles),
        iso,
        structure,
    ]
    if not any(section.differences for section in sections):
        # Of bytes that no section speaks of, the first: nobody shall think that the two are the same.
        bytes_there = [{"value": view.read(first, 1).hex()} for view in (a, b)]
        sections[-1] = Section(structure.id, (Difference(f"byte {first} ({place_of(old.iso, first)})", *bytes_there),))
    return Diff(old.side, new.side, False, tuple(sections))


def first_difference(a: ByteView, b: ByteView, skip: Iterable[Tuple[int, int]], progress: Progress) -> Optional[int]:
    """The first byte in which two views differ outside of the (offset, length) ranges in ``skip``; None: none."""
    holes = sorted(skip)
    size = min(a.size, b.size)
    with progress.step("comparing the bytes of the two ISOs", size) as step:
        for start in range(0, size, STEP):
            length = min(STEP, size - start)
            mine, theirs = bytearray(a.read(start, length)), bytearray(b.read(start, length))
            for offset, count in holes:
                begin, end = max(0, offset - start), min(length, offset + count - start)
                if begin < end:
                    mine[begin:end] = theirs[begin:end] = bytes(end - begin)
            if mine != theirs:
                return start + next(at for at in range(length) if mine[at] != theirs[at])
            step.advance(length)
    return None if a.size == b.size else size


def _open(view: ByteView) -> Opened:
    iso = IsoImage.open(view)
    identity = identify(iso, built_in())
    try:
        return Opened(iso, identity, open_readable(view, built_in()), "")
    except UnsupportedError as error:
        return Opened(iso, identity, None, str(error))


def _roots(old: Opened, new: Opened, scratch: Path, progress: Progress) -> Tuple[Section, Section]:
    if old.node is None or new.node is None:
        reason = old.reason or new.reason
        return Section("files", (), reason), Section("packages", (), reason)
    files = compare_roots(old.node, new.node, progress)
    with progress.step("comparing the packages"):
        return files, compare_packages(old.node, new.node, scratch)


def _described(one: Opened) -> Mapping[str, object]:
    return describe(one.iso, one.identity, one.node)
