"""The rebuild as a whole: read the statement, refuse other inputs, build unsigned, compare all but the slot."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from respin.build.build import build
from respin.build.prepare import BuildRequest
from respin.byteview import ByteView, FileView
from respin.diff.diff import diff_views, first_difference
from respin.diff.model import Diff
from respin.errors import RespinError
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.whereis import Place, place_of
from respin.node.base import opened
from respin.progress import SILENT, Progress
from respin.provenance import statement
from respin.provenance.carrier import find_iso
from respin.provenance.layout import MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE, SLOT, STATEMENT
from respin.provenance.statement import Claims
from respin.reproduce.inputs import ReproduceRequest, base_claim, plugins_in_order, require_architecture
from respin.safepath import show
from respin.trust import TrustStore
from respin.verify.statement import extent, read_statement
from respin.workspace import Workspace, refuse_existing, refuse_inputs


@dataclass(frozen=True)
class FirstDifference:
    """The first byte that is not the same, counted in the ISO, and what lies there in the ISO that was given."""

    offset: int
    place: Place

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"offset": self.offset, "place": self.place.to_json()}


@dataclass(frozen=True)
class Reproduction:
    """What came of it. ``difference`` is None when all but the signature slot is the same.

    ``reasons`` are sentences on what may have made the difference, ``details`` the comparison of the ISO that was given
    (A) with the rebuilt one (B), if it could be made.
    """

    iso: str
    claims: Claims
    here: Mapping[str, str]
    slot: Tuple[int, int]
    size: int
    rebuilt_sha256: str
    difference: Optional[FirstDifference]
    reasons: Tuple[str, ...]
    details: Optional[Diff]
    kept: Optional[Path]

    @property
    def reproduced(self) -> bool:
        """Whether all but the signature slot is the same."""
        return self.difference is None

    def to_json(self) -> Dict[str, Any]:
        """The result as one document."""
        claims = self.claims
        return {
            "schema": "respin.reproduce/1",
            "iso": self.iso,
            "reproduced": self.reproduced,
            "size": self.size,
            "left_out": {"path": f"/{SLOT}", "offset": self.slot[0], "size": self.slot[1]},
            "rebuilt_sha256": self.rebuilt_sha256,
            "kept": None if self.kept is None else str(self.kept),
            "base": {"name": claims.base_name, "sha256": claims.base_sha256, "verified": claims.base_kind},
            "plugins": [{"name": one["name"], "sha256": one["sha256"]} for one in claims.plugins],
            "epoch": claims.epoch,
            "restorable": claims.restorable,
            "toolchain": {"recorded": dict(claims.builder), "here": dict(self.here)},
            "difference": None if self.difference is None else self.difference.to_json(),
            "reasons": list(self.reasons),
            "diff": None if self.details is None else self.details.to_json(),
        }


def reproduce(request: ReproduceRequest, progress: Progress = SILENT) -> Reproduction:
    """Rebuild a respun ISO and compare.

    Raises VerificationError for inputs that are not those which the statement names, and whatever a build raises.
    """
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(request.tmpdir))
        view = find_iso(_opened(request.iso, stack)).view
        iso = IsoImage.open(view)
        raw, _ = read_statement(iso)
        claims = statement.parse(raw, where=f"{request.iso}:/{STATEMENT}")
        if request.keep is not None:
            inputs = (request.iso, request.base, request.base_checksum, *request.plugins, request.trust)
            refuse_inputs((request.keep,), inputs)
            refuse_existing(request.keep, force=request.force)
        require_architecture(claims)
        trust = TrustStore.load(request.trust, request.tmpdir)
        claim = base_claim(request, iso, claims, trust, workspace.path)
        plugins = plugins_in_order(request, claims, workspace.path, progress)
        built = build(
            BuildRequest(
                base=request.base or request.iso,
                plugins=plugins,
                trust=request.trust,
                # Not in the workspace itself: that is locked as long as this process lives, an output's directory while
                # names are given in it.
                output=request.keep or workspace.directory("rebuilt") / "rebuilt.iso",
                claim=claim,
                epoch=claims.epoch,
                restorable=claims.restorable,
                medium=claims.medium.request,
                tmpdir=request.tmpdir,
                force=request.force,
            ),
            progress,
        )
        rebuilt = _opened(built.output, stack)
        slot = extent(iso, SLOT)
        offset = _first_difference(view, rebuilt, slot, progress)
        raw, _ = read_statement(IsoImage.open(rebuilt))
        ours = statement.parse(raw, where=f"{built.output}:/{STATEMENT}")
        return Reproduction(
            iso=str(request.iso),
            claims=claims,
            here=ours.builder,
            slot=slot,
            size=view.size,
            rebuilt_sha256=built.sha256,
            difference=None if offset is None else FirstDifference(offset, place_of(iso, offset)),
            reasons=() if offset is None else _reasons(claims, ours),
            details=None if offset is None else _details(view, rebuilt, workspace.path, progress),
            kept=request.keep,
        )


def _opened(path: Path, stack: ExitStack) -> FileView:
    return FileView(stack.enter_context(opened(path)), str(path))


def _first_difference(view: ByteView, rebuilt: ByteView, slot: Tuple[int, int], progress: Progress) -> Optional[int]:
    """The media check follows from everything else, so it is named only if nothing else differs."""
    follows = (MEDIA_CHECK_OFFSET, MEDIA_CHECK_SIZE)
    offset = first_difference(view, rebuilt, [slot, follows], progress)
    return first_difference(view, rebuilt, [slot], progress) if offset is None else offset


def _reasons(claims: Claims, ours: Claims) -> Tuple[str, ...]:
    """What is known to make other bytes: other versions of the tools, another trust store."""
    found: List[str] = []
    for name in sorted({*claims.builder, *ours.builder}):
        recorded, now = claims.builder.get(name, "none"), ours.builder.get(name, "none")
        if recorded != now:
            found.append(f"it was built with {show(name)} {show(recorded)}, and this machine has {now}")
    if claims.base_signer != ours.base_signer:
        found.append("the vendor's CHECKSUM is signed by another key than the statement says")
    for theirs, mine in zip(claims.plugins + claims.packages, ours.plugins + ours.packages):
        for word in ("signer", "tier"):
            if theirs.get(word) != mine.get(word):
                found.append(
                    f"the statement gives the {word} of {show(str(theirs['name']))} as {show(str(theirs.get(word)))},"
                    f" your trust store as {show(str(mine.get(word)))}"
                )
    return tuple(found)


def _details(view: ByteView, rebuilt: ByteView, scratch: Path, progress: Progress) -> Optional[Diff]:
    """What differs in terms of a Node; None when the ISO that was given is too damaged to look into."""
    try:
        found = diff_views(view, rebuilt, scratch, progress)
    except RespinError:
        return None
    # The slot is left out of the comparison.
    sections = tuple(
        replace(section, differences=tuple(one for one in section.differences if one.name != f"/{SLOT}"))
        if section.id == "iso"
        else section
        for section in found.sections
    )
    return replace(found, sections=sections)
