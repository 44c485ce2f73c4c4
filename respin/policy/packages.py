"""Rules on bundles and packages as wholes: is the Node meant, do they conflict, is what they need there?

There is no dependency resolution: whoever makes a plugin resolves for themselves. The plugin's own needs are looked at
all the same. A kernel symbol or a library that nobody provides means code that cannot work, so it is refused unless the
manifest accepts it; anything else that is missing is said and left to the plugin's maker. The vendor's packages are
never judged: minimised images fail their own dependency checks.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Dict, Iterator, List, Mapping, Tuple

from respin.bundle.fit import compare_versions, mismatches
from respin.errors import UnsupportedError
from respin.formats.rpmfile import Dependency, PackageInfo
from respin.formats.rpmfile.model import EQUAL, GREATER, LESS
from respin.plan import Bundle, InstallPlan
from respin.policy.findings import Finding

# kernel(symbol) and ksym(symbol) of kmod packages, libfoo.so.1()(64bit) of everything that is linked.
_HARD = re.compile(r"k(?:ernel|sym)\(.+\)|.+\.so(?:\.[^ ()]+)*(?:\(.*\))*")
# Effects that a manifest can declare and that this version cannot give.
_NOT_YET = ("replaces",)

_SETS = {"persistence": "persistence layer"}


def judge_bundles(plan: InstallPlan) -> Iterator[Finding]:
    """Findings on bundles and packages; each refuses the build.

    Raises UnsupportedError for a declared effect that this version does not carry out.
    """
    for bundle in plan.bundles:
        yield from _target(plan, bundle)
        _require_supported(bundle)
        for other in plan.bundles:
            for glob in bundle.manifest.conflicts:
                if other is not bundle and fnmatchcase(other.manifest.name, glob):
                    yield Finding(
                        "conflict", bundle.manifest.name, f"it says that it conflicts with {other.manifest.name}"
                    )
    yield from _packages(plan)
    for nevra, requirement in unmet(plan):
        if _HARD.fullmatch(requirement.name):
            yield Finding(
                "unmet-requirement",
                nevra,
                f"it needs {requirement}, which neither the Node nor a plugin provides",
                "bring it along in a bundle, or accept it under effects.accepts_unmet in the manifest",
            )


def soft_unmet(plan: InstallPlan) -> Tuple[str, ...]:
    """Requirements that nobody's database provides and that do not refuse the build, as sentences."""
    return tuple(
        f"{nevra} needs {requirement}, which no package of the Node or of a plugin provides"
        for nevra, requirement in unmet(plan)
        if not _HARD.fullmatch(requirement.name)
    )


def unmet(plan: InstallPlan) -> Iterator[Tuple[str, Dependency]]:
    """(NEVRA, requirement) of every requirement of a plugin that nothing meets and no manifest accepts."""
    headers = [*plan.vendor_packages, *(rpm.header for rpm in plan.rpms)]
    provided = _provided(headers)
    for bundle in plan.bundles:
        accepted = bundle.manifest.effects.accepts_unmet
        for rpm in bundle.rpms:
            for requirement in rpm.header.requires:
                if requirement.is_rpmlib or str(requirement) in accepted or requirement.name in accepted:
                    continue
                if not any(_meets(provide, requirement) for provide in provided.get(requirement.name, ())) and not (
                    requirement.name.startswith("/") and _file_exists(plan, requirement.name)
                ):
                    yield rpm.header.nevra, requirement


def _target(plan: InstallPlan, bundle: Bundle) -> Iterator[Finding]:
    version = plan.node.identity.version
    for finding, sentence in mismatches(
        bundle.manifest.target,
        profile=plan.node.profile.id,
        product=version.get("PRODUCT", ""),
        version=version.get("VERSION", ""),
        architecture=plan.architecture,
        kernels=plan.node.kernel_releases,
    ):
        yield Finding(finding, bundle.manifest.name, sentence, "get the plugin that is made for this Node")


def _require_supported(bundle: Bundle) -> None:
    for effect in _NOT_YET:
        if getattr(bundle.manifest.effects, effect):
            raise UnsupportedError(
                f"the plugin declares effects.{effect}, which this version does not carry out",
                where=str(bundle.path),
                remedy="leaving it out silently would give a plugin that doesn't work; use a version that supports it",
                finding="unsupported-effect",
            )


def _packages(plan: InstallPlan) -> Iterator[Finding]:
    vendor = {header.name: header for header in plan.vendor_packages}
    for rpm in plan.rpms:
        header = rpm.header
        if header.name in vendor:
            yield Finding(
                "already-installed",
                header.nevra,
                f"the Node already has {vendor[header.name].nevra}",
                "a plugin only adds; it cannot replace a vendor's package",
            )
        for name, members in sorted(plan.node.profile.protected.items()):
            if any(fnmatchcase(header.name, glob) for glob in members.packages):
                yield Finding(
                    "protected-package",
                    header.nevra,
                    f"it is called like a package of the Node's {_SETS.get(name, name)}",
                    "the installer and the persistence layer stay exactly as the vendor made them",
                )
        for kind, dependencies in (("obsoletes", header.obsoletes), ("conflicts with", header.conflicts)):
            for dependency in dependencies:
                if dependency.name in vendor:
                    has = vendor[dependency.name].nevra
                    yield Finding("conflict", header.nevra, f"it {kind} {dependency}, and the Node has {has}")
    names: Dict[str, List[str]] = {}
    for rpm in plan.rpms:
        names.setdefault(rpm.header.name, []).append(rpm.header.nevra)
    for name, nevras in names.items():
        if len(nevras) > 1:
            yield Finding("conflict", name, f"several plugins bring a package of this name: {', '.join(nevras)}")


def _provided(headers: List[PackageInfo]) -> Mapping[str, List[Dependency]]:
    provided: Dict[str, List[Dependency]] = {}
    for header in headers:
        for provide in header.provides:
            provided.setdefault(provide.name, []).append(provide)
    return provided


def _meets(provide: Dependency, requirement: Dependency) -> bool:
    """Whether a provided version lies in the required range; the epoch counts when both name one."""
    if not requirement.version or not provide.version:
        return True
    order = _compare(provide.version, requirement.version)
    sense = requirement.flags
    return bool((sense & EQUAL and order == 0) or (sense & GREATER and order > 0) or (sense & LESS and order < 0))


def _compare(one: str, other: str) -> int:
    (epoch_one, rest_one), (epoch_other, rest_other) = _split_epoch(one), _split_epoch(other)
    if epoch_one != epoch_other:
        return -1 if epoch_one < epoch_other else 1
    version_one, _, release_one = rest_one.partition("-")
    version_other, _, release_other = rest_other.partition("-")
    order = compare_versions(version_one, version_other)
    return order or (compare_versions(release_one, release_other) if release_one and release_other else 0)


def _split_epoch(text: str) -> Tuple[int, str]:
    epoch, colon, rest = text.partition(":")
    return (int(epoch), rest) if colon and epoch.isdigit() else (0, text)


def _file_exists(plan: InstallPlan, path: str) -> bool:
    return plan.node.root.resolve(path) is not None or path in plan.files
