"""Places of a root that would change what the vendor's own programs do, whatever the profile says.

A file here acts on programs that it doesn't name: a library that is loaded into every process, a directory that comes
earlier in a search path, a generator that writes units at boot. A plugin has no business there.
"""

from __future__ import annotations

from typing import Tuple

RESERVED: Tuple[str, ...] = (
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/nsswitch.conf",
    "/etc/environment",
    "/etc/pam.d/**",
    "/etc/sudoers",
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/inittab",
    "/etc/init.d/rc*",
    "/etc/rpm/**",
    "/usr/lib/rpm/**",
    "/root/**",
    "/boot/**",
    "/usr/local/**",
    "/usr/share/respin/**",
    "/etc/systemd/system.conf.d/**",
    "/etc/systemd/*.conf",
    "/usr/lib/systemd/system.conf.d/**",
    "/etc/systemd/system/service.d/**",
    "/usr/lib/systemd/system/service.d/**",
    "/etc/systemd/system-generators/**",
    "/usr/lib/systemd/system-generators/**",
    "/etc/systemd/system-environment-generators/**",
    "/usr/lib/systemd/system-environment-generators/**",
    "/usr/lib/environment.d/**",
    "/etc/environment.d/**",
    "/usr/lib/python*/sitecustomize.py",
    "/usr/lib/python*/usercustomize.py",
    "/usr/lib/python*/site-packages/*.pth",
    "/usr/lib/python*/dist-packages/*.pth",
    "/usr/lib64/python*/site-packages/*.pth",
)

# In the order in which they are searched; a file in one hides its namesake in a later one.
PROGRAM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
LIBRARY_DIRECTORIES = (
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/lib",
)

MODULES = ("/usr/lib/modules", "/lib/modules")
USER_DATABASE: Tuple[str, ...] = tuple(
    f"/etc/{name}{suffix}"
    for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
    for suffix in ("", "-")
)
LINKER_CACHE = "/etc/ld.so.cache"
FACTS = "/usr/share/respin/facts.json"
