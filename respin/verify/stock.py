"""The vendor's ISO to compare with: the one that was given, or the one that the restore map brings back."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Sequence, Tuple

from respin.byteview import ByteView
from respin.errors import VerificationError
from respin.formats.iso9660.image import IsoImage
from respin.formats.rpmfile import PackageInfo
from respin.medium.initrds import Initrds
from respin.node.base import BaseClaim, opened, verify_base
from respin.node.image import NodeImage, open_node
from respin.node.profile import Profile
from respin.node.protected import ProtectedPaths
from respin.progress import Progress
from respin.provenance.layout import RESTORE
from respin.restore import open_restored


@dataclass(frozen=True)
class Stock:
    """The vendor's ISO to compare with, its digest verified, and who says what it must be.

    The others are what was found out about it before, if anything: ``even`` is what
    :func:`respin.node.consistency.is_even` says of its root, ``packages`` are those that its RPM database records.
    """

    node: NodeImage
    claim: BaseClaim
    even: Optional[bool] = None
    protected: Optional[ProtectedPaths] = None
    packages: Optional[Tuple[PackageInfo, ...]] = None
    initrds: Initrds = field(default_factory=Initrds)


class StockSource:
    """Where the vendor's ISO is to come from.

    ``iso`` is the respun ISO, ``base`` the vendor's if it was given; ``stack`` closes everything.
    """

    def __init__(
        self, iso: ByteView, base: Optional[Path], profiles: Sequence[Profile], tmpdir: Path, stack: ExitStack
    ) -> None:
        self._profiles = tuple(profiles)
        self._iso, self._base, self._tmpdir, self._stack = iso, base, tmpdir, stack
        self._base_fd = -1
        if base is not None:
            self._base_fd = stack.enter_context(opened(base))

    def verified(self, claim: BaseClaim, progress: Progress) -> Optional[Stock]:
        """The vendor's ISO, which must be what ``claim`` says; None if it was not given and no restore map is there.

        A restore map has to bring it back also where it was given: bytes that nobody reads could be anything.
        """
        given: Optional[ByteView] = None
        if self._base is not None:
            given = verify_base(self._base_fd, self._base, claim, progress).view()
        restored = self._restored(claim, progress)
        view = restored if given is None else given
        return None if view is None else Stock(open_node(view, self._profiles), claim)

    def _restored(self, claim: BaseClaim, progress: Progress) -> Optional[ByteView]:
        iso = IsoImage.open(self._iso)
        if f"/{RESTORE}" not in iso.files:
            return None
        restored = open_restored(iso, self._tmpdir, self._stack)
        digest = restored.verify(progress)
        if digest != claim.sha256:
            raise VerificationError(
                f"what the restore map brings back has the sha256 {digest}, the vendor's ISO has {claim.sha256}",
                where=f"{self._iso.name}:/{RESTORE}",
                remedy="this is not a respin of that vendor's release; do not use it",
                finding="base-digest",
            )
        return restored
