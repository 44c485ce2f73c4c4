"""Rules on kernel modules: will this Node's kernel load what a plugin brings, and find what that needs?

Judged from the files alone: the version magic, the CRC of every symbol, the modules and the firmware a module names.
What nobody can tell without the machine, or what only a person decides (Secure Boot), is reported and does not refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from respin.bundle import VerifiedBundle
from respin.bundle.payload import read_files
from respin.errors import MalformedError
from respin.formats.kernelmodule import KernelModule, module_name, read_module
from respin.formats.modulesignature import signer
from respin.node.kernelfacts import KernelFacts, firmware_paths
from respin.plan import InstallPlan, PlannedFile
from respin.policy.findings import Finding
from respin.safepath import show

_DIRECTORY = "/lib/modules/"
_MOST_NAMES = 8


@dataclass(frozen=True)
class Driver:
    """A kernel module of a plugin, at the path where it lands, for the kernel in whose directory that is.

    ``early`` says whether the plugin wants it in early boot, too. ``accepted`` is what its manifest accepts as unmet:
    ``kernel(SYMBOL)``, ``module(NAME)``, ``firmware(NAME)`` and ``vermagic(RELEASE)`` count here.
    """

    path: str
    release: str
    nevra: str
    module: KernelModule
    early: bool
    accepted: Tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What there is to say of one driver: ``findings`` refuse it, the rest is for people.

    ``symbols`` counts those it imports, ``unknown_symbols`` those of them that nothing in the Node tells the CRC of.
    ``firmware`` maps what it may ask for to where that is, or None. ``secure_boot`` is a sentence.
    """

    driver: Driver
    findings: Tuple[Finding, ...]
    symbols: int
    unknown_symbols: Tuple[str, ...]
    firmware: Mapping[str, "str | None"]
    secure_boot: str

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {
            "name": self.driver.module.name,
            "path": self.driver.path,
            "package": self.driver.nevra,
            "kernel": self.driver.release,
            "vermagic": self.driver.module.vermagic,
            "depends": list(self.driver.module.depends),
            "symbols": self.symbols,
            "unknown_symbols": list(self.unknown_symbols),
            "firmware": dict(self.firmware),
            "secure_boot": self.secure_boot,
            "early_boot": self.driver.early,
            "loads": not self.findings,
        }


def read_drivers(
    plan: InstallPlan, bundles: Sequence[VerifiedBundle]
) -> Tuple[Tuple[Driver, ...], Tuple[Finding, ...]]:
    """The kernel modules of the bundles of a plan, and a finding for each file that is called one and is none."""
    drivers: List[Driver] = []
    findings: List[Finding] = []
    for bundle in bundles:
        effects = bundle.manifest.effects
        for rpm in bundle.rpms:
            planned = [one for one in plan.files.values() if one.nevra == rpm.header.nevra and _is_module(one)]
            contents = read_files(rpm, {one.entry.path for one in planned}) if planned else {}
            for one in planned:
                try:
                    module = read_module(contents[one.entry.path], one.path, f"{one.nevra}:{one.path}")
                except MalformedError as error:
                    findings.append(Finding("bad-module", one.path, error.what, error.remedy or ""))
                    continue
                early = module.name in effects.initrd_modules
                drivers.append(Driver(one.path, _release(one.path), one.nevra, module, early, effects.accepts_unmet))
    return tuple(drivers), tuple(findings)


def judge_drivers(plan: InstallPlan, drivers: Sequence[Driver]) -> Iterator[Judgement]:
    """A judgement for each driver."""
    facts = {release: KernelFacts(plan.node.root, release) for release in {driver.release for driver in drivers}}
    for driver in drivers:
        beside = [other.module for other in drivers if other.release == driver.release]
        yield _Judge(driver, facts[driver.release], beside, plan.files).judge()


class _Judge:
    def __init__(
        self,
        driver: Driver,
        facts: KernelFacts,
        beside: Sequence[KernelModule],
        files: Mapping[str, PlannedFile],
    ) -> None:
        self._driver, self._facts, self._beside, self._files = driver, facts, beside, files
        own = {name: crc for module in beside for name, crc in module.exports.items()}
        self._own = own
        wanted = {name for name in driver.module.versions if name not in own}
        self._known: Dict[str, int] = {**facts.crcs(wanted), **{name: crc for name, crc in own.items() if crc}}

    def judge(self) -> Judgement:
        firmware = {name: self._firmware(name) for name in self._driver.module.firmware}
        versions = self._driver.module.versions
        unknown = tuple(sorted(name for name in versions if name not in self._known))
        findings = (*self._magic(), *self._symbols(unknown), *self._dependencies(), *self._missing(firmware))
        return Judgement(self._driver, findings, len(versions), unknown, firmware, self._secure_boot())

    def _magic(self) -> Iterator[Finding]:
        mine, theirs = self._driver.module.vermagic, self._facts.vermagic
        release = self._driver.module.release
        if release != self._driver.release:
            if f"vermagic({release})" not in self._driver.accepted or not self._same_abi():
                yield self._finding(
                    "kernel-mismatch",
                    f"it was built for the kernel {show(release)}, and lies among the modules of"
                    f" {self._driver.release}" + (", whose symbols are the same" if self._same_abi() else ""),
                    "get the plugin that is built for this Node's kernel",
                )
        elif theirs is not None and mine.split()[1:] != theirs.split()[1:]:
            yield self._finding(
                "kernel-mismatch",
                f"its version magic is {show(mine)!r}, the vendor's modules have {show(theirs)!r}",
                "build it with the configuration of the Node's kernel",
            )

    def _same_abi(self) -> bool:
        """Whether every symbol is known and has the CRC it should: the kernel would load the module all the same."""
        versions = self._driver.module.versions
        return bool(versions) and all(self._known.get(name) == crc for name, crc in versions.items())

    def _symbols(self, unknown: Sequence[str]) -> Iterator[Finding]:
        versions, accepted = self._driver.module.versions, self._driver.accepted
        other = [
            name
            for name, crc in sorted(versions.items())
            if name in self._known and self._known[name] != crc and f"kernel({name})" not in accepted
        ]
        if other:
            first = other[0]
            yield self._finding(
                "symbol-crc",
                f"{_names(other)} changed since it was built: of {show(first)} it expects the CRC"
                f" {versions[first]:#010x}, this kernel has {self._known[first]:#010x}",
                "build it against the headers of the Node's kernel",
            )
        exported = self._facts.exported
        imports = set(unknown) | (set(self._driver.module.imports) - set(self._own))
        missing = sorted(
            name
            for name in (imports if exported is not None else ())
            if name not in (exported or ()) and name not in self._own and f"kernel({name})" not in accepted
        )
        if missing:
            yield self._finding(
                "symbol-missing",
                f"it needs {_names(missing)}, which neither this kernel nor a plugin exports",
                "build it against the headers of the Node's kernel, or bring the module that exports it",
            )

    def _dependencies(self) -> Iterator[Finding]:
        have = {*self._facts.modules, *self._facts.builtin, *(module.name for module in self._beside)}
        for name in self._driver.module.depends:
            if name.replace("-", "_") not in have and f"module({name})" not in self._driver.accepted:
                yield self._finding(
                    "module-dependency",
                    f"it needs the module {show(name)}, which neither the Node nor a plugin has",
                    "bring the module along in a bundle",
                )

    def _firmware(self, name: str) -> "str | None":
        for path in firmware_paths(name, self._driver.release):
            for planned in (path, f"/usr{path}"):
                if planned in self._files:
                    return planned
        return self._facts.firmware(name)

    def _missing(self, firmware: Mapping[str, "str | None"]) -> Iterator[Finding]:
        for name, path in firmware.items():
            if path is None and f"firmware({name})" not in self._driver.accepted:
                yield self._finding(
                    "firmware-missing",
                    f"it asks for the firmware {show(name)}, which neither the Node nor a plugin has",
                    f"bring it along in a bundle, or accept that under effects.accepts_unmet as firmware({show(name)})",
                )

    def _secure_boot(self) -> str:
        message = self._driver.module.signature
        if not message:
            return "not signed: a kernel under Secure Boot refuses it"
        who = signer(message)
        if who is not None and who in self._facts.signers:
            return f"signed by the key of the vendor's modules, {who}"
        named = "somebody that cannot be made out" if who is None else str(who)
        return (
            f"signed by {named}, not by the vendor of the kernel: Secure Boot needs its certificate enrolled as a MOK"
        )

    def _finding(self, finding: str, message: str, remedy: str) -> Finding:
        return Finding(finding, self._driver.path, f"{self._driver.nevra}: {message}", remedy)


def _is_module(planned: PlannedFile) -> bool:
    return bool(module_name(planned.path) and planned.entry.digest and _DIRECTORY in planned.path)


def _release(path: str) -> str:
    return path.split(_DIRECTORY, 1)[1].split("/", 1)[0]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(show(name) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
