"""The file systems that the agent mounts in its own namespace; all of them vanish with it.

Everything the agent writes besides changed blocks lies on a tmpfs over the caller's scratch directory: nothing is left
on disk, and no file ever belongs to a mapped id there.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Dict, Mapping, Sequence

from respin import process
from respin.errors import BuildError, MissingToolError, RespinError
from respin.root import e2fsprogs, fuse, syscalls

_NAMESPACE_REMEDY = (
    "sysctl kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000 (EL) or"
    " kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); a container must allow user namespaces and mounting"
)
# Labels on our tmpfs would be for the build machine's policy, if it has one, to judge.
_NOT_COPIED = ("trusted.", "system.", "security.selinux")
# fuse2fs's own defaults but for the time, in seconds, that the kernel may remember attributes, names, and that there is
# no such name: it forgets the first at once and the others after one. Nothing changes below while it is mounted.
_REMEMBER = 1 << 30
_FUSE2FS = "ro,no_default_opts,kernel_cache,use_ino,subtype=ext4," + ",".join(
    f"{what}_timeout={_REMEMBER}" for what in ("attr", "entry", "negative")
)


@dataclass(frozen=True)
class Scratch:
    """The places below the scratch directory."""

    top: str

    @property
    def view(self) -> str:
        """The FUSE file system with the image in it."""
        return f"{self.top}/view"

    @property
    def lower(self) -> str:
        """The vendor's root, read-only."""
        return f"{self.top}/lower"

    @property
    def upper(self) -> str:
        """What the transaction wrote."""
        return f"{self.top}/overlay/upper"

    @property
    def work(self) -> str:
        """overlayfs' own."""
        return f"{self.top}/overlay/work"

    @property
    def merged(self) -> str:
        """The root as the transaction sees it."""
        return f"{self.top}/merged"

    @property
    def rpm_config(self) -> str:
        """rpm's configuration directory."""
        return f"{self.top}/rpm"

    @property
    def files(self) -> str:
        """Small files of the agent's own."""
        return f"{self.top}/files"


def no_namespace(error: OSError) -> MissingToolError:
    """What to tell when the kernel refuses a namespace or a mount in it."""
    place = f" ({error.filename})" if error.filename else ""
    return MissingToolError(
        f"this machine does not let us make a namespace with mounts of its own: {error.strerror}{place}",
        remedy=_NAMESPACE_REMEDY,
        finding="no-user-namespace",
    )


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2) that explains a refusal."""
    try:
        syscalls.mount(source, target, kind, flags, options)
    except OSError as error:
        if error.errno == errno.EPERM and kind == "proc":
            raise MissingToolError(
                "the kernel refuses a /proc of its own to the sandbox, because parts of the one here are covered",
                remedy="a container has to show all of it: podman run --security-opt unmask=ALL, docker run"
                " --security-opt systempaths=unconfined",
                finding="no-user-namespace",
            ) from error
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENODEV):
            raise no_namespace(error) from error
        raise


def make_private() -> None:
    """Nothing mounted here shows anywhere else, and the reverse."""
    mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)


def make_scratch(top: str, size: int) -> Scratch:
    """Mount a tmpfs of at most ``size`` bytes over ``top`` and lay it out."""
    mount("respin", top, "tmpfs", syscalls.MS_NODEV, f"mode=0755,size={size}")
    scratch = Scratch(top)
    os.umask(0o022)
    os.mkdir(f"{top}/overlay")
    for path in (
        scratch.view, scratch.lower, scratch.upper, scratch.work, scratch.merged, scratch.rpm_config, scratch.files,
    ):  # fmt: skip
        os.mkdir(path, 0o755)
    return scratch


def mount_image(image: str, mountpoint: str) -> None:
    """Mount an ext image read-only by fuse2fs: the host's kernel never parses it."""
    # fuse2fs goes to the background once it is mounted; as root of the namespace it needs no allow_other. It has one
    # lock, for which its threads would only wait: one is enough (-s).
    done = process.run(["fuse2fs", "-s", "-o", _FUSE2FS, image, mountpoint], check=False, timeout=120)
    if done.returncode != 0 or not os.path.ismount(mountpoint):
        e2fsprogs.refuse_unsupported((done.stderr + done.stdout).decode("utf-8", "replace"), "the root image")
        raise BuildError(done.explain(), remedy="check the image with e2fsck -fn", finding="cannot-mount-root")


def mount_squashfs(image: str, offset: int, mountpoint: str, pass_fds: Sequence[int] = ()) -> None:
    """Mount the squashfs at byte ``offset`` of a file read-only by squashfuse_ll, as :func:`mount_image` does.

    It lets the kernel remember what it said for good, which squashfuse does not: a program is unpacked once, not each
    time that it is started.
    """
    done = process.run(
        ["squashfuse_ll", "-o", f"ro,offset={offset}", image, mountpoint], check=False, timeout=120, pass_fds=pass_fds
    )
    if done.returncode != 0 or not os.path.ismount(mountpoint):
        raise BuildError(done.explain(), remedy="check the image with unsquashfs -s", finding="cannot-mount-root")


def mount_overlay(scratch: Scratch) -> None:
    """Put a writable layer over the vendor's root.

    Metacopy, redirects and the inode index stay off: what is in the upper layer is then complete and plain. Kernels
    before 6.6 have no user extended attributes on tmpfs; overlayfs then does without opaque directories.
    """
    # the overlay's root takes its attributes from the upper directory
    status = os.stat(scratch.lower)
    os.chown(scratch.upper, status.st_uid, status.st_gid)
    os.chmod(scratch.upper, status.st_mode & 0o7777)
    for name in _visible_xattrs(scratch.lower):
        os.setxattr(scratch.upper, name, os.getxattr(scratch.lower, name))
    options = (
        f"lowerdir={scratch.lower},upperdir={scratch.upper},workdir={scratch.work},"
        "userxattr,metacopy=off,redirect_dir=nofollow,index=off"
    )
    if any(character in scratch.top for character in ",:\\"):
        raise MissingToolError(
            "overlayfs cannot use a directory with ',', ':' or a backslash in its name",
            where=scratch.top,
            remedy="name another directory with --tmpdir",
        )
    try:
        syscalls.mount("respin", scratch.merged, "overlay", 0, options)
    except OSError as error:
        raise MissingToolError(
            f"overlayfs cannot be mounted in a user namespace: {error.strerror}",
            remedy="Linux 5.11 or newer with overlayfs is needed: modprobe overlay",
            finding="no-overlay",
        ) from error


def unmount(path: str) -> None:
    """Unmount; a mount that is still in use is a bug, not something to force."""
    try:
        syscalls.umount(path)
    except OSError as error:
        raise BuildError(f"cannot unmount {path}: {error.strerror}", finding="sandbox-failed") from error


def _visible_xattrs(path: str) -> "list[str]":
    try:
        return [name for name in os.listxattr(path) if not name.startswith(_NOT_COPIED)]
    except OSError:
        return []


def try_mounts(top: str) -> Mapping[str, RespinError]:
    """For diagnosis: mount what an installation needs and say what failed."""
    failures: Dict[str, RespinError] = {}
    try:
        make_private()
        scratch = make_scratch(top, 1 << 20)
        mount("proc", scratch.view, "proc")
        mount_overlay(scratch)
    except RespinError as error:
        failures["overlay"] = error
        return failures
    try:
        fuse.require_mountable(scratch.lower)
    except RespinError as error:
        failures["fuse"] = error
    return failures
