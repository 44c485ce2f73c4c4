"""The first steps: what to build, with which key, on which base; each answer verified or refused."""

from __future__ import annotations

import functools
import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, FrozenSet, Iterator, Mapping, Optional, Tuple

from respin import sbom
from respin.bundle import VerifiedBundle
from respin.byteview import FileView
from respin.clock import source_date_epoch
from respin.digesting import Digesting
from respin.errors import PolicyError, UnsupportedError, UsageError, VerificationError
from respin.formats.iso9660.image import IsoImage
from respin.formats.openpgp import Signer
from respin.medium.derive import NO_REQUEST, MediumRequest
from respin.node.base import BaseClaim, VerifiedBase, claim_given, opened, verify_base
from respin.node.image import NodeImage
from respin.node.rootimage import NestedRoot
from respin.plan import InstallPlan, make_plan
from respin.progress import Progress
from respin.provenance import sidecar, statement
from respin.provenance.carrier import find_iso
from respin.provenance.layout import STATEMENT
from respin.restore import restore_to
from respin.trust import TrustStore
from respin.unchanged import changes_told
from respin.verify.statement import is_respun, read_statement, verify_signatures, verify_subject
from respin.workspace import Workspace, refuse_existing, refuse_inputs, refuse_same

ARCHITECTURES: Mapping[str, Tuple[str, ...]] = {"x86_64": ("x86_64", "noarch"), "aarch64": ("aarch64", "noarch")}


@dataclass(frozen=True)
class BuildRequest:
    """What to build. One of ``base_checksum``, ``base_sha256`` and ``claim`` says what the vendor's ISO must be.

    ``base`` may be a respun ISO: then the vendor's is restored from it first, and each plugin that it holds must be
    among ``plugins`` (kept or replaced) or, by name, in ``remove``. ``sign_key`` None builds an unsigned ISO;
    ``gnupg_home`` holds the secret key. ``restorable`` False leaves the restore map out. ``epoch`` counts before
    SOURCE_DATE_EPOCH. ``medium`` is what to change on the medium besides. ``may_grow`` False refuses plugins for which
    the root image has too little room. ``payload`` is where the new root image is to be written as a file of its own.
    """

    base: Path
    plugins: Tuple[Path, ...]
    trust: Path
    output: Path
    base_checksum: Optional[Path] = None
    base_sha256: Optional[str] = None
    sign_key: Optional[str] = None
    gnupg_home: Optional[Path] = None
    tmpdir: Optional[Path] = None
    force: bool = False
    restorable: bool = True
    remove: FrozenSet[str] = frozenset()
    claim: Optional[BaseClaim] = None
    epoch: Optional[int] = None
    medium: MediumRequest = NO_REQUEST
    may_grow: bool = True
    payload: Optional[Path] = None


@dataclass(frozen=True)
class Start:
    """The vendor's ISO to start from, not verified yet, and what it must be.

    ``had`` names the plugins that were on the ISO given as the base, ``revision`` is its number, 0 of a stock ISO.
    ``begun`` has begun to hash it, perhaps.
    """

    fd: int
    path: Path
    claim: BaseClaim
    had: Tuple[str, ...]
    revision: int
    begun: Optional[Digesting] = None

    @property
    def view(self) -> FileView:
        """The ISO's bytes, which nobody has verified yet."""
        return FileView(self.fd, str(self.path))

    @contextmanager
    def verifying(self, progress: Progress) -> Iterator[Callable[[], VerifiedBase]]:
        """What is read of the ISO in this context counts as the vendor's only once it is left.

        Gives what returns, behind the context, the ISO that has the digest that the claim names. It is hashed beside
        what is done in the context if there is a lease on it, so that what is read is what is hashed; else before
        anything is read. Nothing may be run or written by what was read until then. If something is wrong with it, that
        the ISO is not the vendor's is said before anything else.
        """
        verified = functools.cache(lambda: verify_base(self.fd, self.path, self.claim, progress, self.begun))
        lease = None if self.begun is None or not self.begun.is_of(self.fd) else self.begun.lease
        if lease is None or not lease.holds:
            lease = None
            verified()
        try:
            yield verified
        except Exception:
            verified()
            raise
        verified()
        if lease is not None and not lease.holds:
            raise VerificationError(
                "somebody opened the file for writing while it was being verified",
                where=str(self.path),
                remedy="nothing was built; make sure that nobody writes to the base ISO and build again",
                finding="base-changed",
            )


def signer_for(request: BuildRequest) -> Optional[Signer]:
    """The key to sign with; None for an unsigned build."""
    if request.sign_key is None:
        return None
    if request.gnupg_home is None:
        raise UsageError(
            "a key to sign with was named, but not where it is",
            remedy="say --gnupg-home DIR; ~/.gnupg is never used by itself",
        )
    return Signer(request.gnupg_home, request.sign_key)


def start_from(
    request: BuildRequest,
    trust: TrustStore,
    workspace: Workspace,
    stack: ExitStack,
    progress: Progress,
    begun: Optional[Digesting] = None,
) -> Start:
    """Open the base, learn what it must be; a respun ISO is taken back to the vendor's first.

    ``begun`` has begun to hash the base, perhaps.
    """
    _refuse_outputs(request)
    if [request.base_checksum, request.base_sha256, request.claim].count(None) != 2:
        raise UsageError(
            "it takes exactly one word on what the base must be",
            remedy="give --base-checksum CHECKSUM (signed by the vendor), or --base-sha256 HEX",
        )
    fd = stack.enter_context(opened(request.base, changes_told))
    name = request.base.name
    had: Tuple[str, ...] = ()
    revision = 0
    iso = IsoImage.open(find_iso(FileView(fd, str(request.base))).view)
    if is_respun(iso):
        if begun is not None:
            begun.close()
        # Whoever brings the claim has chosen the plugins by this very statement, to rebuild what it describes.
        claims = _claims(iso) if request.claim is not None else _signed_claims(iso, trust, workspace.path, progress)
        name, had = claims.base_name, tuple(_plugin_name(str(plugin["name"])) for plugin in claims.plugins)
        revision = claims.medium.request.revision
        # An anonymous file: it goes away with the process, whatever ends it.
        restored = stack.enter_context(tempfile.TemporaryFile(dir=workspace.path))  # noqa: SIM115
        restore_to(iso, restored.fileno(), workspace.path, progress)
        fd = restored.fileno()
    given = claim_given(request.base_checksum, request.base_sha256, name, trust, workspace.path)
    claim = request.claim or given
    assert claim is not None  # exactly one of the three is there
    return Start(fd, request.base, claim, had, revision, begun)


def _claims(iso: IsoImage) -> statement.Claims:
    return statement.parse(read_statement(iso)[0], where=f"{iso.name}:/{STATEMENT}")


def _signed_claims(iso: IsoImage, trust: TrustStore, tmpdir: Path, progress: Progress) -> statement.Claims:
    """What a respun base says of itself, by a trusted signature over it and about these very bytes.

    The vendor's ISO in it is verified by itself, but which plugins it holds only the statement says: one that nobody
    vouches for, or that speaks of another ISO, could let one be dropped without a word.
    """
    _, envelope = read_statement(iso)
    try:
        verify_signatures(iso, envelope, trust, tmpdir)
        claims = _claims(iso)
        verify_subject(iso, claims, progress)
    except VerificationError as error:
        raise VerificationError(
            f"nobody trusted says which plugins the base holds: {error.what}",
            where=error.where,
            remedy="`respin restore` brings back the vendor's ISO; build on that with every plugin that you want",
            finding=error.finding,
            also=error.also,
        ) from error
    return claims


def _refuse_outputs(request: BuildRequest) -> None:
    """Whatever will be in the way at the end is said at the start."""
    payload = () if request.payload is None else (request.payload, sidecar.checksum_path(request.payload))
    beside = (*sidecar.paths(request.output), sbom.beside(request.output), *payload)
    refuse_same((request.output, *beside))
    inputs = (request.base, request.base_checksum, *request.plugins, request.trust, request.gnupg_home)
    refuse_inputs((request.output, *beside), inputs)
    for path in beside:
        refuse_existing(path, force=request.force)


def require_every_plugin(had: Tuple[str, ...], bundles: Tuple[VerifiedBundle, ...], remove: FrozenSet[str]) -> None:
    """Raise PolicyError unless each plugin of the ISO given as the base is kept, replaced or removed by name."""
    given = {bundle.manifest.name for bundle in bundles}
    for name in sorted(remove):
        if name not in had or name in given:
            held = f"it holds {', '.join(had)}" if had else "it holds none"
            raise UsageError(
                f"--remove {name}: the base does not hold that plugin, or its bundle is given too",
                remedy=f"name a plugin of the base: {held}",
            )
    for name in had:
        if name not in given | remove:
            raise PolicyError(
                f"the base holds the plugin {name}, and nothing says what shall become of it",
                remedy=f"give its bundle again with --plugin, or leave it out with --remove {name}",
                finding="plugin-dropped",
            )


def plan_for(
    node: NodeImage, bundles: Tuple[VerifiedBundle, ...], workspace: Workspace, epoch: Optional[int] = None
) -> InstallPlan:
    """The plan to install ``bundles`` on a Node, at the time ``epoch`` if it is given."""
    if not bundles:
        raise UsageError("no plugin is given, so there is nothing to build", remedy="give --plugin BUNDLE")
    if isinstance(node.image, NestedRoot) and node.image.tree.superblock.dirty:
        raise UnsupportedError(
            "the root's file system was not unmounted cleanly when the vendor made it",
            where=node.root.view.name,
            remedy="ask the vendor for an image whose file system is clean",
            finding="dirty",
        )
    time = _epoch(node) if epoch is None else epoch
    return make_plan(node, bundles, time, _require_architecture(bundles), workspace.path)


def _plugin_name(file_name: str) -> str:
    """NAME of NAME-VERSION-RELEASE.ARCH.plugin.tar."""
    return file_name.rsplit("-", 2)[0]


def _require_architecture(bundles: Tuple[VerifiedBundle, ...]) -> str:
    """The architecture of this machine and of the Node; UnsupportedError for packages of another one."""
    machine = os.uname().machine
    known = ARCHITECTURES.get(machine, (machine, "noarch"))
    for bundle in bundles:
        for rpm in bundle.rpms:
            if rpm.header.arch not in known:
                raise UnsupportedError(
                    f"{rpm.header.nevra} is for {rpm.header.arch}; this machine is {machine}",
                    where=str(bundle.path),
                    remedy="scriptlets run natively: build on a machine of the Node's architecture",
                    finding="architecture",
                )
    return machine


def _epoch(node: NodeImage) -> int:
    """SOURCE_DATE_EPOCH if it is set, else the date that the vendor gave the ISO."""
    epoch = source_date_epoch()
    if epoch is None:
        epoch = node.iso.created
    if epoch is None:
        raise UsageError("the ISO has no creation date", remedy="set SOURCE_DATE_EPOCH to whole seconds since 1970")
    return epoch
