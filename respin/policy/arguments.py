"""Rules on the kernel arguments that a plugin's manifest declares: for its driver, not for the rest of the Node."""

from __future__ import annotations

from typing import Iterator

from respin.plan import InstallPlan
from respin.policy.findings import Finding
from respin.safepath import first_match

# Names of arguments by which the root, the installer, the persistence layer, init or the kernel's own protection would
# become others (kernel-parameters.txt, dracut.cmdline(7), kernel-command-line(7), anaconda's boot options,
# live-boot(7)). A trailing * covers what begins so.
_REFUSED = (
    "init", "rdinit", "initrd", "root", "root*", "ro", "rw", "resume*", "noresume", "boot", "boot=*", "BOOT_IMAGE",
    "inst", "inst.*", "ks", "ks.*", "ksdevice", "stage2", "repo", "method", "updates", "dd",
    "rd", "rd.*", "rd_*", "rdbreak", "live*", "liveimg", "toram", "overlay*", "reset_overlay", "iso-scan*", "findiso",
    "fromiso", "persist*", "nopersist*", "union", "fetch", "httpfs", "ftpfs", "nfsroot*", "netboot", "systemd.*",
    "install", "reinstall", "uninstall", "upgrade", "firstboot", "rescue", "emergency", "single", "s", "S", "1",
    "storage_*", "ovirt_*", "ovirt*", "BOOTIF", "rootpw", "adminpw", "local_boot*", "standalone", "management_server",
    "node.*", "imgbase*", "security", "selinux", "enforcing", "autorelabel", "lsm", "lsm.*", "apparmor", "lockdown",
    "module.sig_enforce", "module.sig_*", "ima*", "evm*", "integrity*", "audit", "fips", "kexec*", "crashkernel",
    "debugfs", "slub_debug*", "nokaslr", "nosmep", "nosmap", "mitigations", "pti", "nopti", "spectre*", "efi*",
)  # fmt: skip
# What drivers need although it looks like one of these.
_ALLOWED = ("inst.dd", "rd.driver.blacklist", "rd.driver.pre", "rd.driver.post")


def judge_arguments(plan: InstallPlan) -> Iterator[Finding]:
    """A finding for every declared kernel argument that is not a driver's own."""
    for bundle in plan.bundles:
        for argument in bundle.manifest.effects.kernel_arguments:
            name = argument.partition("=")[0]
            pattern = None if first_match(name, _ALLOWED) else first_match(name, _REFUSED)
            if pattern is not None:
                yield Finding(
                    "kernel-argument",
                    bundle.manifest.name,
                    f"its kernel argument {argument} acts on what is the vendor's ({pattern})",
                    "declare arguments of the plugin's own modules; whoever builds can add others by --append-arg",
                )
