"""The world that a scriptlet sees: the Node's root and nothing of the build machine.

A process enters it in two steps so that it can load what it needs from the host in between: :func:`furnish` mounts
/proc, /dev, /run and /tmp into the merged root (in this process's own mount namespace), :func:`lock_in` makes that
root the only one there is. Afterwards no path, no descriptor and no capability leads back.
"""

from __future__ import annotations

import os
import resource
import stat
from typing import Optional, Sequence

from respin.root import syscalls
from respin.root.mounts import mount

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_FILE_LIMIT = 16 << 30

# What installing packages takes. Not among them: mounting, tracing, loading modules, networks, rebooting.
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "sys_chroot", "mknod", "lease", "audit_write", "setfcap",
)  # fmt: skip

# uname(1) for scriptlets: they mean the Node's kernel, not the build machine's. GNU's order of fields.
_UNAME = """#!/bin/sh
release={release}
fields=
[ $# -gt 0 ] || set -- -s
for argument; do
    case $argument in
        --all) fields=snrvmo$fields ;;
        --kernel-name) fields=s$fields ;;
        --nodename) fields=n$fields ;;
        --kernel-release) fields=r$fields ;;
        --kernel-version) fields=v$fields ;;
        --machine) fields=m$fields ;;
        --processor) fields=p$fields ;;
        --hardware-platform) fields=i$fields ;;
        --operating-system) fields=o$fields ;;
        --*) exec /run/respin/uname "$@" ;;
        -*[!asnrvmpio]*) exec /run/respin/uname "$@" ;;
        -*a*) fields=snrvmo$fields ;;
        -?*) fields=${{argument#-}}$fields ;;
        *) exec /run/respin/uname "$@" ;;
    esac
done
line=
for field in s n r v m p i o; do
    case $fields in
        *$field*) ;;
        *) continue ;;
    esac
    case $field in
        s) word=Linux ;;
        n) word=respin ;;
        r) word=$release ;;
        v) word='#1 SMP' ;;
        m|p|i) word=$(/run/respin/uname -m) ;;
        o) word=GNU/Linux ;;
    esac
    line="${{line:+$line }}$word"
done
printf '%s\\n' "$line"
"""


def write_uname(path: str, release: str) -> None:
    """Write the stand-in for uname(1) that says ``release``."""
    quoted = "'" + release.replace("'", "'\\''") + "'"
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(_UNAME.format(release=quoted))
    os.chmod(path, 0o755)  # noqa: S103 - scriptlets of any user run it


def furnish(root: str, uname: str) -> None:
    """Mount a private /proc, /dev, /run and /tmp where ``root`` has such directories, and the stand-in for uname."""
    if _plain_directory(f"{root}/proc"):
        # Read-only: root's identity map would otherwise let a scriptlet set the host's kernel parameters.
        flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        mount("proc", f"{root}/proc", "proc", flags)
    if _plain_directory(f"{root}/dev"):
        mount("dev", f"{root}/dev", "tmpfs", syscalls.MS_NOSUID, "mode=0755,size=1m")
        for name in _DEVICES:
            if os.path.exists(f"/dev/{name}"):
                os.close(os.open(f"{root}/dev/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                mount(f"/dev/{name}", f"{root}/dev/{name}", flags=syscalls.MS_BIND)
        for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(f"/proc/self/{target}", f"{root}/dev/{name}")
        os.mkdir(f"{root}/dev/shm")
        os.chmod(f"{root}/dev/shm", 0o1777)  # noqa: S103 - its mode everywhere
    for name, mode in (("run", "0755"), ("tmp", "1777")):
        if _plain_directory(f"{root}/{name}"):
            mount(name, f"{root}/{name}", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"mode={mode},size=1g")
    real = next((p for p in ("/usr/bin/uname", "/bin/uname") if resolve(root, p)), None)
    place = resolve(root, real) if real else None
    # A multi-call binary (busybox) must not be covered: every other command is that file too.
    if place and os.path.basename(place) == "uname" and os.path.ismount(f"{root}/run"):
        os.mkdir(f"{root}/run/respin")
        open(f"{root}/run/respin/uname", "wb").close()
        mount(root + place, f"{root}/run/respin/uname", flags=syscalls.MS_BIND)
        mount(uname, root + place, flags=syscalls.MS_BIND)


def lock_in(root: str, seconds: float) -> None:
    """Make ``root`` the only root, drop capabilities and set limits."""
    syscalls.pivot_root(root)
    syscalls.keep_only_capabilities(CAPABILITIES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_LIMIT, _FILE_LIMIT))
    cpu = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def close_other_descriptors(keep: Sequence[int]) -> None:
    """Close everything but standard input, output, error and ``keep``: /proc/1/fd would lead out through the rest."""
    wanted = sorted({0, 1, 2, *keep})
    for low, high in zip(wanted, [*wanted[1:], os.sysconf("SC_OPEN_MAX")]):
        os.closerange(low + 1, min(high, 1 << 20))


def resolve(root: str, path: str) -> Optional[str]:
    """The real path of ``path`` inside ``root``, symbolic links followed as if it were "/"; None if it isn't there."""
    todo, place, hops = [part for part in path.split("/") if part], "", 0
    while todo:
        part = todo.pop(0)
        if part == ".":
            continue
        if part == "..":
            place = os.path.dirname(place) if place else ""
            place = "" if place == "/" else place
            continue
        try:
            status = os.lstat(f"{root}{place}/{part}")
        except OSError:
            return None
        if stat.S_ISLNK(status.st_mode):
            hops += 1
            if hops > 40:
                return None
            target = os.readlink(f"{root}{place}/{part}")
            if target.startswith("/"):
                place = ""
            todo = [p for p in target.split("/") if p] + todo
        else:
            place = f"{place}/{part}"
    return place or "/"


def _plain_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
