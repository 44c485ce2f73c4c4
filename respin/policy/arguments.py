"""Rules on the kernel arguments that a plugin's manifest declares: for its driver, not for the rest of the Node."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Collection, Iterator, Set, Tuple

from respin.formats.bootconfig import ArgumentEdit
from respin.formats.kernelmodule import module_name
from respin.node.kernelfacts import KernelFacts
from respin.plan import Bundle, InstallPlan
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
    "sysctl.*", "firmware_class.*", "module.*", "udev.*", "luks.*", "ignition.*", "coreos.*", "modprobe.*",
)  # fmt: skip
# Whole arguments that are for the hardware and take nothing away from the vendor's protection. inst.dd has no value
# here: with one the installer would fetch drivers from there.
_HARDWARE = (
    "inst.dd", "rd.driver.blacklist=*", "rd.driver.pre=*", "rd.driver.post=*", "modprobe.blacklist=*",
    "intel_iommu=on", "amd_iommu=on", "iommu=pt", "iommu.passthrough=1", "nomodeset",
    "pci=realloc", "pci=assign-busses", "pci=nocrs", "pci=nomsi", "pci=noaer", "pci=pcie_bus_perf", "pcie_aspm=off",
    "pcie_ports=native", "hugepages=*", "hugepagesz=*", "default_hugepagesz=*", "cma=*", "swiotlb=*",
)  # fmt: skip


# What only decides what is shown and where; whoever builds may ask for it.
_SHOWN = (
    "quiet",
    "rhgb",
    "splash",
    "nosplash",
    "plymouth.enable=0",
    "console=*",
    "loglevel=[0-7]",
    "vga=*",
    "consoleblank=*",
)


def judge_arguments(plan: InstallPlan, modules: Collection[str]) -> Iterator[Finding]:
    """A finding for every declared kernel argument that is not the plugin's own: of its module or under its name.

    Too many programs read the kernel's command line for a list of what is dangerous to be complete, so only what is
    known to be harmless is let through besides. ``modules`` are the kernel's names of modules of the vendor's.
    """
    declared = [bundle for bundle in plan.bundles if bundle.manifest.effects.kernel_arguments]
    if not declared:
        return
    taken = _taken(plan, modules)
    for bundle in declared:
        own = _own_names(bundle, plan) - taken
        for argument in bundle.manifest.effects.kernel_arguments:
            if any(fnmatchcase(argument, one) for one in _HARDWARE):
                continue
            name = argument.partition("=")[0]
            prefix, dot, _ = name.partition(".")
            pattern = first_match(name, _REFUSED)
            if pattern is None and dot and prefix.replace("-", "_") in own:
                continue
            why = f"acts on what is the vendor's ({pattern})" if pattern else "is none of the plugin's own"
            yield Finding(
                "kernel-argument",
                bundle.manifest.name,
                f"its kernel argument {argument} {why}",
                "declare arguments of the plugin's own modules (MODULE.PARAMETER=VALUE); whoever builds can add others"
                " by --append-arg",
            )


def unvouched(plan: InstallPlan, asked: ArgumentEdit, modules: Collection[str]) -> Tuple[str, ...]:
    """What whoever built asked to add (+) and to remove (-) that nobody but they can answer for.

    ``modules`` are the kernel's names of modules of the vendor's. Let through is what a plugin might declare, arguments
    of its own modules and for hardware; and what only decides what is shown.
    """
    own = {name for bundle in plan.bundles for name in _own_names(bundle, plan)} - _taken(plan, modules)
    added = [
        f"+{one}"
        for one in asked.append
        if not any(fnmatchcase(one, known) for known in (*_HARDWARE, *_SHOWN)) and not _is_of(own, one)
    ]
    removed = [f"-{one}" for one in asked.remove if not any(fnmatchcase(one, known) for known in _SHOWN)]
    return (*added, *removed)


def _is_of(own: Collection[str], argument: str) -> bool:
    name = argument.partition("=")[0]
    prefix, dot, _ = name.partition(".")
    return bool(dot) and prefix.replace("-", "_") in own and first_match(name, _REFUSED) is None


def _taken(plan: InstallPlan, modules: Collection[str]) -> Set[str]:
    """The kernel's names for everything that the Node has, built in or as one of ``modules``."""
    builtin = (KernelFacts(plan.node.root, release).builtin for release in plan.node.kernel_releases)
    return set(modules).union(*builtin)


def _own_names(bundle: Bundle, plan: InstallPlan) -> Set[str]:
    """The kernel's names for what the bundle brings, and the bundle's own name."""
    files = (path for path, planned in plan.files.items() if planned.bundle is bundle)
    return {name for name in map(module_name, files) if name} | {bundle.manifest.name.replace("-", "_")}
