"""Whether a file system in user space can be mounted here: found out by mounting one, not by looking for files."""

from __future__ import annotations

import os
import stat

from respin import process
from respin.errors import MissingToolError
from respin.root import syscalls

DEVICE = "/dev/fuse"
REMEDY = (
    "modprobe fuse; chmod 0666 /dev/fuse (its usual mode); a container needs --device /dev/fuse and must allow mounting"
)


def require(program: str, place: str) -> None:
    """MissingToolError unless ``program`` is installed and FUSE can be mounted at ``place``, inside the sandbox."""
    process.find(program)
    require_mountable(place)


def require_device() -> None:
    """MissingToolError unless /dev/fuse can be opened."""
    os.close(_open())


def require_mountable(place: str) -> None:
    """The same, and unless the kernel lets us mount what is served through it. Nobody serves; it is gone at once."""
    fd = _open()
    try:
        options = f"fd={fd},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0"
        syscalls.mount("respin", place, "fuse", syscalls.MS_NODEV | syscalls.MS_NOSUID, options)
        syscalls.umount(place, syscalls.MNT_DETACH)
    except OSError as error:
        raise MissingToolError(
            f"a FUSE file system cannot be mounted in a user namespace: {error.strerror}",
            remedy="Linux 4.18 or newer is needed; a container needs --device /dev/fuse and must allow mounting",
            finding="no-fuse",
        ) from error
    finally:
        os.close(fd)


def needed(why: str) -> MissingToolError:
    """The refusal when FUSE is missing and the way around it is barred."""
    return MissingToolError(
        f"without FUSE this root cannot be shown to the packages: {why}", remedy=REMEDY, finding="no-fuse"
    )


def _open() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MissingToolError(
            f"{DEVICE} is missing or may not be opened ({error.strerror})", remedy=REMEDY, finding="no-fuse"
        ) from error
