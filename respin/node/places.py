"""Places of a root that would change what the vendor's own programs do, whatever the profile says.

A file here acts on programs that it doesn't name: a library that is loaded into every process, a directory that comes
earlier in a search path, a generator that writes units at boot. A plugin has no business there.
"""

from __future__ import annotations

from typing import Tuple

RESERVED: Tuple[str, ...] = (
    # Every process: the dynamic linker, the C library's modules, the environment, logins.
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/nsswitch.conf",
    "/usr/lib/libnss_*",
    "/usr/lib64/libnss_*",
    "/usr/lib/*/libnss_*",
    "/usr/lib/gconv/**",
    "/usr/lib64/gconv/**",
    "/usr/lib/*/gconv/**",
    "/etc/environment",
    "/etc/environment.d/**",
    "/usr/lib/environment.d/**",
    "/etc/profile",
    "/etc/profile.d/**",
    "/etc/pam.d/**",
    "/usr/lib/pam.d/**",
    "/usr/lib/security/**",
    "/usr/lib64/security/**",
    "/usr/lib/*/security/**",
    "/etc/sudoers",
    "/etc/sudoers.d/**",
    "/etc/ssh/*_config",
    "/etc/ssh/*_config.d/**",
    "/etc/securetty",
    "/etc/nologin",
    "/etc/binfmt.d/**",
    "/usr/lib/binfmt.d/**",
    "/usr/local/**",
    "/root/**",
    "/var/spool/cron/**",
    # Disks and file systems, as the installer and the persistence layer see them.
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/blkid.conf",
    "/etc/mke2fs.conf",
    "/etc/e2fsck.conf",
    # Boot: the kernel, the initrd, the boot loader, marks in the root directory.
    "/boot/**",
    "/etc/kernel/**",
    "/usr/lib/kernel/**",
    "/etc/dracut.conf",
    "/etc/dracut.conf.d/**",
    "/usr/lib/dracut/**",
    "/usr/share/dracut/**",
    "/etc/initramfs-tools/**",
    "/usr/share/initramfs-tools/**",
    "/etc/grub.d/**",
    "/etc/default/grub*",
    "/etc/default/grub.d/**",
    "/.autorelabel",
    "/.unconfigured",
    "/fastboot",
    "/forcefsck",
    # What systemd and init start, beyond units.
    "/etc/inittab",
    "/etc/init.d/rc*",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/systemd/*.conf",
    "/usr/lib/systemd/*.conf",
    "/etc/systemd/*.conf.d/**",
    "/usr/lib/systemd/*.conf.d/**",
    "/etc/systemd/system/service.d/**",
    "/usr/lib/systemd/system/service.d/**",
    "/etc/systemd/system.control/**",
    "/etc/systemd/system.attached/**",
    "/etc/systemd/user-preset/**",
    "/usr/lib/systemd/user-preset/**",
    "/etc/systemd/*-generators/**",
    "/usr/lib/systemd/*-generators/**",
    # What packages and respin itself rely on.
    "/etc/rpm/**",
    "/usr/lib/rpm/**",
    "/usr/share/respin/**",
    # Which policy is loaded, and what it says (selinux_config(5), semanage.conf(5)).
    "/etc/selinux/**",
    "/var/lib/selinux/**",
    "/usr/lib/selinux/**",
    "/usr/libexec/selinux/**",
    # Perl and Python load these before what was asked for.
    "/etc/perl/**",
    "/usr/lib/python*.zip",
    "/usr/lib64/python*.zip",
    "/usr/lib/python*/sitecustomize.py",
    "/usr/lib/python*/usercustomize.py",
    "/usr/lib/python*/*-packages/*.pth",
    "/usr/lib/python*/*-packages/sitecustomize*",
    "/usr/lib/python*/*-packages/usercustomize*",
    "/usr/lib64/python*/sitecustomize.py",
    "/usr/lib64/python*/usercustomize.py",
    "/usr/lib64/python*/*-packages/*.pth",
    "/usr/lib64/python*/*-packages/sitecustomize*",
    "/usr/lib64/python*/*-packages/usercustomize*",
)

# Below an earlier one of these roots a file takes the place of its namesake below a later one (udev(7), tmpfiles.d(5),
# sysusers.d(5), sysctl.d(5), modprobe.d(5), depmod.d(5), systemd.network(5)).
DROP_IN_ROOTS = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
DROP_IN_DIRECTORIES = (
    "NetworkManager/conf.d",
    "NetworkManager/dispatcher.d",
    "NetworkManager/system-connections",
    "depmod.d",
    "modprobe.d",
    "modules-load.d",
    "sysctl.d",
    "systemd/network",
    "systemd/system-preset",
    "systemd/ntp-units.d",
    "systemd/user",
    "sysusers.d",
    "tmpfiles.d",
    "udev/hwdb.d",
    "udev/rules.d",
)
# Bus services are found by name, too (dbus-daemon(1), "STANDARD SYSTEM SERVICE DIRECTORIES").
BUS_SERVICES = (
    "/etc/dbus-1/system-services",
    "/usr/local/share/dbus-1/system-services",
    "/usr/share/dbus-1/system-services",
    "/usr/lib/dbus-1/system-services",
    "/lib/dbus-1/system-services",
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
