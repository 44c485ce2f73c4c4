"""``respin inspect --lint``, and the last look of a build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

from respin.byteview import ByteView
from respin.errors import BuildError, UnsupportedError
from respin.formats import mediacheck
from respin.formats.iso9660.image import IsoImage
from respin.lint.boot import boot
from respin.lint.model import LintFinding, Severity, error
from respin.lint.structure import TRUNCATED, structure
from respin.medium.bootfiles import find_boot_files
from respin.node.profile import Profile
from respin.node.recognise import recognise
from respin.progress import SILENT, Progress


@dataclass(frozen=True)
class Linted:
    """What was found, errors first."""

    name: str
    findings: Tuple[LintFinding, ...]

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return not any(one.severity is Severity.ERROR for one in self.findings)

    def to_json(self) -> Dict[str, Any]:
        """As one document."""
        return {
            "schema": "respin.lint/1",
            "iso": self.name,
            "passed": self.passed,
            "findings": [one.to_json() for one in self.findings],
        }


def lint(
    view: ByteView, profiles: Sequence[Profile], progress: Progress = SILENT, *, media_check: bool = True
) -> Linted:
    """Look at any ISO. Raises MalformedError and UnsupportedError for what cannot be read as one.

    ``media_check`` False leaves out the media check, for which the whole ISO is read.
    """
    iso = IsoImage.open(view)
    found = list(structure(iso))
    whole = all(one.id != TRUNCATED for one in found)  # else nothing can be said of what lies behind the end
    if whole:
        found += boot(iso, find_boot_files(iso, _profile(iso, profiles)))
    if whole and media_check and mediacheck.verify(view, progress) is mediacheck.Result.FAIL:
        found.append(
            error(
                "media-check",
                "primary volume descriptor",
                "the implanted media check fails",
                "the ISO is damaged, or was changed without implantisomd5; installers that check the medium refuse it",
            )
        )
    order = {Severity.ERROR: 0, Severity.WARNING: 1}
    return Linted(view.name, tuple(sorted(found, key=lambda one: (order[one.severity], one.id, one.place))))


def require_no_new_error(before: Linted, after: Linted) -> None:
    """BuildError when ``after`` has an error of a kind that ``before``, the vendor's ISO, does not have."""
    known = {one.id for one in before.findings}
    for one in after.findings:
        if one.severity is Severity.ERROR and one.id not in known:
            raise BuildError(
                f"the new ISO has a defect that the vendor's has not: {one.place}: {one.message}",
                where=after.name,
                remedy="nothing was published; this should not happen, please report it with this message",
                finding="lint",
            )


def _profile(iso: IsoImage, profiles: Sequence[Profile]) -> Optional[Profile]:
    try:
        return recognise(iso, profiles)
    except UnsupportedError:
        return None  # more than one fits: the usual places are looked at
