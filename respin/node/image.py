"""A Node ISO, opened: which Node it is, and its root image, readable without mounting or unpacking anything.

Layouts are told apart by what is in the files (magic numbers), never by their names. This version builds on two: the
classic Node's, a squashfs that holds one ext2/3/4 image, and a squashfs that is the root itself. An erofs can be read.
Everything else is recognised and named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Optional, Sequence, Tuple

from respin.byteview import ByteView
from respin.errors import UnsupportedError
from respin.formats.erofs.superblock import is_erofs
from respin.formats.iso9660.image import IsoImage
from respin.formats.squashfs.image import SquashfsFile, SquashfsImage
from respin.limits import LIMITS
from respin.node.paths import read_file
from respin.node.places import MODULES
from respin.node.profile import Profile
from respin.node.recognise import Places, places, recognise, version_of
from respin.node.rootimage import (
    EXT_MAGIC,
    EXT_MAGIC_OFFSET,
    SMALLEST_ROOT,
    ErofsRoot,
    ReadableRoot,
    RootImage,
    magic_at,
    open_root_image,
)
from respin.roottree import RootTree

SQUASHFS_MAGIC = b"hsqs"
# Where the root image may lie on live media, in the order in which they are looked at when no profile says it.
ROOT_IMAGES = ("/LiveOS/squashfs.img", "/LiveOS/rootfs.img", "/live/filesystem.squashfs", "/images/install.img")


def product_of(version: Mapping[str, str]) -> str:
    """Product, version and release as a version file gives them, or an empty string."""
    parts = (version.get(key, "") for key in ("PRODUCT", "VERSION", "RELEASE"))
    return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Identity:
    """What can be said of any ISO without opening its root image.

    ``version`` is empty as long as it stands in the root; the one of an opened Node has it.
    """

    profile: Optional[Profile]
    version: Mapping[str, str]
    root_image: Optional[str]
    layout: str
    places: Places

    @property
    def product(self) -> str:
        """Product, version and release as the Node's version file gives them, or an empty string."""
        return product_of(self.version)


@dataclass(frozen=True)
class ReadableNode:
    """A Node whose root can be read, whether or not anything can be built on it. ``path`` is the root image's."""

    iso: IsoImage
    identity: Identity
    profile: Profile
    path: str
    image: ReadableRoot

    @property
    def root(self) -> RootTree[Any]:
        """The root's tree."""
        return self.image.tree

    @property
    def kernel_releases(self) -> Tuple[str, ...]:
        """The kernels whose modules the root holds, sorted."""
        return kernel_releases(self.root)


@dataclass(frozen=True)
class NodeImage(ReadableNode):
    """A Node of a layout that is built on, opened for reading."""

    image: RootImage

    @property
    def squashfs_path(self) -> str:
        """The path of the squashfs in the ISO."""
        return self.path

    @property
    def squashfs(self) -> SquashfsImage:
        """The root image that the ISO holds."""
        return self.image.squashfs


def identify(iso: IsoImage, profiles: Sequence[Profile]) -> Identity:
    """Which Node ``iso`` is and what its root image is, by the given profiles and by magic numbers.

    Raises UnsupportedError when several profiles fit, or several files could be the root image.
    """
    profile = recognise(iso, profiles)
    found = Places() if profile is None else places(iso, profile)
    version: Mapping[str, str] = {}
    if profile is not None and profile.version.iso in iso.files:
        path = profile.version.iso
        version = version_of(profile.version, iso.read(path, LIMITS.small_file), f"{iso.name}:{path}")
    path_of_root = found.root or next((place for place in ROOT_IMAGES if place in iso.files), None)
    layout = describe_layout(iso.file_view(path_of_root)) if path_of_root else "no root image found"
    return Identity(profile, version, path_of_root, layout, found)


def describe_layout(view: ByteView) -> str:
    """One phrase for the kind of root image in ``view``."""
    if magic_at(view, 0, SQUASHFS_MAGIC):
        squashfs = SquashfsImage.open(view)
        inner = find_root_file(squashfs)
        kind = f"{squashfs.compressor.name.lower()} squashfs"
        return f"{kind} holding {inner.path} (ext)" if inner else f"flat {kind}"
    if is_erofs(view):
        try:
            erofs = ErofsRoot.open(view)
        except UnsupportedError as error:
            return f"erofs that cannot be read ({error.what})"
        kind = f"{erofs.erofs.compression} erofs"
        return f"{kind} holding {erofs.inner_path} (ext)" if erofs.inner_path else f"flat {kind}"
    if magic_at(view, EXT_MAGIC_OFFSET, EXT_MAGIC):
        return "plain ext image"
    return "root image of an unknown kind"


def open_node(view: ByteView, profiles: Sequence[Profile]) -> NodeImage:
    """Open a Node ISO of a layout that is built on.

    Raises UnsupportedError (exit 7) with what was found when it is something else, MalformedError when it is broken.
    """
    node = open_readable(view, profiles)
    if isinstance(node, NodeImage):
        return node
    raise unsupported_layout(node.identity, node.iso)


def open_readable(view: ByteView, profiles: Sequence[Profile]) -> ReadableNode:
    """Open a Node ISO whose root can be read: a NodeImage if it can also be built on. Errors as above."""
    iso = IsoImage.open(view)
    identity = identify(iso, profiles)
    path, image = _open_image(iso, identity)
    if identity.profile is None:
        known = ", ".join(profile.title for profile in profiles)
        raise UnsupportedError(
            "the layout is a Node's, but no profile recognises it",
            where=view.name,
            remedy=f"known: {known}; a profile of your own goes into the trust store, see docs/reference/profiles.md;"
            " without one nobody knows what the installer and the persistence layer are",
            finding="profile",
        )
    profile = identity.profile
    identity = _with_version(identity, profile, image)
    if isinstance(image, ErofsRoot):
        return ReadableNode(iso, identity, profile, path, image)
    return NodeImage(iso, identity, profile, path, image)


def _with_version(identity: Identity, profile: Profile, image: ReadableRoot) -> Identity:
    """The identity with the version that stands in the root, if the profile says that it does."""
    for path in profile.version.root:
        found = image.tree.resolve(path)
        data = None if found is None else read_file(image.tree, found.path)
        if data is not None:
            return replace(identity, version=version_of(profile.version, data, f"{image.tree.view.name}:{path}"))
    return identity


def identify_anyway(iso: IsoImage, profiles: Sequence[Profile]) -> Identity:
    """As :func:`identify`, by magic numbers alone where the profiles lead to no answer."""
    try:
        return identify(iso, profiles)
    except UnsupportedError:
        return identify(iso, ())


def open_root(iso: IsoImage, profiles: Sequence[Profile]) -> RootTree[Any]:
    """The root file system of any ISO whose root image can be read, nested or flat; that one of ``profiles`` fits is
    not needed, and says which image it is where there are several.

    Errors as above.
    """
    tree: RootTree[Any] = _open_image(iso, identify_anyway(iso, profiles))[1].tree
    return tree


def _open_image(iso: IsoImage, identity: Identity) -> Tuple[str, ReadableRoot]:
    """Path of the root image in the ISO, and what it is."""
    if identity.root_image is None:
        raise UnsupportedError(
            "this ISO has no root image where live media have one",
            where=iso.view.name,
            remedy="looked for " + ", ".join(ROOT_IMAGES),
            finding="layout",
        )
    view = iso.file_view(identity.root_image)
    if magic_at(view, 0, SQUASHFS_MAGIC):
        squashfs = SquashfsImage.open(view)
        return identity.root_image, open_root_image(squashfs, find_root_file(squashfs))
    if is_erofs(view):
        return identity.root_image, ErofsRoot.open(view)
    raise unsupported_layout(identity, iso)


def find_root_file(squashfs: SquashfsImage) -> Optional[SquashfsFile]:
    """The file of a squashfs that is an ext image of a root, or None when the squashfs is a root itself."""
    if not squashfs.is_small:
        return None
    found = [
        entry
        for entry in squashfs.entries.values()
        if isinstance(entry, SquashfsFile)
        and entry.size >= SMALLEST_ROOT
        and magic_at(squashfs.open_file(entry.path), EXT_MAGIC_OFFSET, EXT_MAGIC)
    ]
    return found[0] if len(found) == 1 else None


def kernel_releases(root: RootTree[Any]) -> Tuple[str, ...]:
    """The directories below the root's module directory, sorted."""
    for path in MODULES:
        found = root.resolve(path)
        if found is not None and found.inode.is_directory:
            return tuple(root.listdir(found.path))
    return ()


def unsupported_layout(identity: Identity, iso: IsoImage) -> UnsupportedError:
    """Why nothing is built on this root image."""
    return UnsupportedError(
        f"respin builds on a squashfs only, flat or holding one ext image; this root image is: {identity.layout}",
        where=f"{iso.view.name}:{identity.root_image}",
        remedy="`respin inspect` shows what else was found; an erofs can be inspected, listed and compared",
        finding="layout",
    )
