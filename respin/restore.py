"""The vendor's ISO, bit for bit, from a respun ISO alone."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from respin.byteview import FileView
from respin.errors import VerificationError
from respin.formats import mediacheck
from respin.formats.iso9660.image import IsoImage
from respin.node.base import opened
from respin.progress import SILENT, Progress
from respin.provenance import restoremap
from respin.provenance.carrier import find_iso
from respin.provenance.layout import EVIDENCE, MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE, RESTORE, SLOT, STATEMENT
from respin.provenance.restoremap import RestoredView
from respin.scratch import Workspace
from respin.unchanged import changes_told
from respin.workspace import Output, refuse_inputs
from respin.writing import write_all


@dataclass(frozen=True)
class Restored:
    """A restored ISO: where it is, its SHA-256 and size."""

    output: Path
    sha256: str
    size: int


def restore(iso_path: Path, output_path: Path, tmpdir: Optional[Path], *, force: bool, progress: Progress) -> Restored:
    """Write the vendor's ISO that ``iso_path`` was made from; VerificationError when the bytes don't come back."""
    refuse_inputs((output_path,), (iso_path,))
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(tmpdir))
        fd = stack.enter_context(opened(iso_path, changes_told))
        iso = IsoImage.open(find_iso(FileView(fd, str(iso_path))).view)
        output = stack.enter_context(Output(output_path, force=force, reaper=workspace.reaper))
        view = open_restored(iso, workspace.path, stack)
        with output.writing():
            sha256 = view.verify(progress, lambda data: write_all(output.fd, data))
        output.publish()
        return Restored(output_path, sha256, view.size)


def restore_to(iso: IsoImage, fd: int, scratch: Path, progress: Progress = SILENT) -> Tuple[str, int]:
    """Write the vendor's ISO to ``fd``; returns its SHA-256 and size, which are what the restore map says."""
    with ExitStack() as stack:
        view = open_restored(iso, scratch, stack)
        return view.verify(progress, lambda data: write_all(fd, data)), view.size


def open_restored(iso: IsoImage, scratch: Path, stack: ExitStack) -> RestoredView:
    """The vendor's ISO as a view over the respun one; ``stack`` keeps the unpacked originals.

    Raises VerificationError when the ISO carries no restore map, MalformedError for one that doesn't hold together.
    Nothing is said about the bytes yet: :meth:`RestoredView.verify` does.
    """
    if f"/{RESTORE}" not in iso.files:
        raise VerificationError(
            "this ISO carries no restore map (it is stock, or was built with --no-restore), so the vendor's cannot be"
            " had from it",
            where=iso.view.name,
            remedy="get the vendor's ISO from the vendor; commands that need it take it with --base NODE.iso",
            finding="no-restore-map",
        )
    file = iso.file_view(f"/{RESTORE}")
    found, start = restoremap.parse(file)
    restoremap.validate(found, iso.view, own_ranges(iso), file.name)
    # An anonymous file: it goes away with the process, whatever ends it.
    originals = stack.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
    restoremap.unpack_originals(found, file, start, originals.fileno())
    return RestoredView(found, iso.view, originals.fileno(), f"the vendor's ISO in {iso.view.name}")


def own_ranges(iso: IsoImage) -> List[Tuple[int, int]]:
    """The ranges (offset, size) of a respun ISO that are respin's own and never the vendor's.

    Without a media check its field is the vendor's like any other byte.
    """
    own = [(MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE)] if mediacheck.read(iso.view) is not None else []
    for name in (STATEMENT, SLOT, RESTORE, EVIDENCE):
        if f"/{name}" in iso.files:
            view = iso.file_view(f"/{name}")
            own.append((view.offset, view.size))
    return own
