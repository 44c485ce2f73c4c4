"""What a Node's root offers to a kernel module: exported symbols and their CRCs, modules, firmware, who signed them.

The CRCs come from the kernel's symvers file if the vendor ships one; otherwise from what the vendor's own modules were
compiled with, which covers what they use.
"""

from __future__ import annotations

import lzma
import re
import zlib
from functools import cached_property
from typing import Any, Collection, Dict, FrozenSet, Iterator, List, Mapping, Optional, Tuple

from respin.errors import MalformedError, RespinError
from respin.formats.kernelmodule import KernelModule, module_name, read_module
from respin.formats.modulesignature import ModuleSigner, signer
from respin.limits import LIMITS
from respin.node.paths import read_file, real_path
from respin.roottree import RootTree
from respin.safepath import relative

_SYMVERS = (
    "/lib/modules/{0}/symvers.{1}", "/boot/symvers-{0}.{1}", "/lib/modules/{0}/build/Module.symvers",
)  # fmt: skip
_SYSTEM_MAPS = ("/boot/System.map-{0}", "/lib/modules/{0}/System.map")
_FIRMWARE = ("/lib/firmware/updates/{0}", "/lib/firmware/updates", "/lib/firmware/{0}", "/lib/firmware")
_FIRMWARE_SUFFIXES = ("", ".xz", ".zst")
_LINE = re.compile(rb"^(0x[0-9a-fA-F]{1,16})\t([^\t\n]+)\t", re.MULTILINE)
_KSYMTAB = re.compile(rb" __ksymtab_([A-Za-z0-9_.$]+)$", re.MULTILINE)
_SIGNERS_FROM = 8  # vendor modules looked at for who signs them


class KernelFacts:
    """The facts about one kernel ``release`` of a root; read when they are asked for."""

    def __init__(self, root: RootTree[Any], release: str) -> None:
        self.release = release
        self._root = root
        self._read: Dict[str, KernelModule] = {}

    @cached_property
    def modules(self) -> Mapping[str, str]:
        """The paths of the vendor's modules by the kernel's names for them."""
        top = real_path(self._root, f"/lib/modules/{self.release}")
        inode = self._root.lookup(top)
        if inode is None or not inode.is_directory:
            return {}
        found = ((module_name(path), path) for path, one in self._root.walk(top) if one.is_file)
        return {name: path for name, path in found if name}

    @cached_property
    def builtin(self) -> FrozenSet[str]:
        """The names of the modules that are part of the kernel itself."""
        text = self._text(f"/lib/modules/{self.release}/modules.builtin").decode("utf-8", "replace")
        return frozenset(filter(None, map(module_name, text.split())))

    @cached_property
    def symvers(self) -> Optional[Mapping[str, int]]:
        """Every symbol that kernel and modules export, with its CRC; None when the vendor ships no list of them."""
        for pattern in _SYMVERS:
            for suffix in ("gz", "xz"):
                path = pattern.format(self.release, suffix)
                packed = self._text(path)
                if packed:
                    return {
                        name.decode("utf-8", "replace"): int(crc, 16) & 0xFFFFFFFF
                        for crc, name in _LINE.findall(_unpacked(packed, path))
                    }
        return None

    @cached_property
    def exported(self) -> Optional[FrozenSet[str]]:
        """The names of the symbols that the kernel exports; None when nothing in the root lists them all."""
        if self.symvers is not None:
            return frozenset(self.symvers)
        for pattern in _SYSTEM_MAPS:
            names = _KSYMTAB.findall(self._text(pattern.format(self.release)))
            if names:
                inside = (name for module in self._vendor() for name in module.exports)
                return frozenset([*(name.decode("ascii") for name in names), *inside])
        return None

    @cached_property
    def vermagic(self) -> Optional[str]:
        """The vermagic of the vendor's own modules."""
        first = next(self._vendor(), None)
        return None if first is None else first.vermagic

    @cached_property
    def signers(self) -> FrozenSet[ModuleSigner]:
        """Who signed the vendor's modules, as far as the first few tell."""
        found: List[Optional[ModuleSigner]] = []
        for number, module in enumerate(self._vendor()):
            if number >= _SIGNERS_FROM:
                break
            found.append(signer(module.signature) if module.signature else None)
        return frozenset(one for one in found if one is not None)

    def crcs(self, symbols: Collection[str]) -> Mapping[str, int]:
        """The CRCs of those of ``symbols`` that are known. Vendor modules are read until all are found."""
        if self.symvers is not None:
            return {name: self.symvers[name] for name in symbols if name in self.symvers}
        found: Dict[str, int] = {}
        for module in self._vendor():
            for known in (module.versions, module.exports):
                for name in known.keys() & symbols:
                    crc = known[name]
                    if crc is not None:
                        found.setdefault(name, crc)
            if len(found) == len(symbols):
                break
        return found

    def firmware(self, name: str) -> Optional[str]:
        """The path of a firmware file as the kernel looks for it, or None."""
        for path in firmware_paths(name, self.release):
            resolved = self._root.resolve(path)
            if resolved is not None and resolved.inode.is_file:
                return path
        return None

    def _vendor(self) -> Iterator[KernelModule]:
        """The vendor's modules, by name; one that cannot be read is left out."""
        for name in sorted(self.modules):
            module = self._read.get(name)
            if module is None:
                path = self.modules[name]
                try:
                    data = read_file(self._root, path) or b""
                    module = self._read[name] = read_module(data, path, f"{self._root.view.name}:{path}")
                except RespinError:
                    continue
            yield module

    def _text(self, path: str) -> bytes:
        return read_file(self._root, real_path(self._root, path)) or b""


def firmware_paths(name: str, release: str) -> Tuple[str, ...]:
    """Where the kernel looks for firmware called ``name``, first place first (drivers/base/firmware_loader/main.c).

    Nowhere, if the name would lead out of the directories for firmware.
    """
    try:
        relative(name, where=name)
    except MalformedError:
        return ()
    places = (place.format(release) for place in _FIRMWARE)
    return tuple(f"{place}/{name}{suffix}" for place in places for suffix in _FIRMWARE_SUFFIXES)


def _unpacked(packed: bytes, path: str) -> bytes:
    limit = LIMITS.small_file * 4
    try:
        if path.endswith(".gz"):
            return zlib.decompressobj(31).decompress(packed, limit)
        if path.endswith(".xz"):
            return lzma.LZMADecompressor(memlimit=limit).decompress(packed, limit)
    except (zlib.error, lzma.LZMAError) as error:
        raise MalformedError(
            f"the kernel's list of symbols is not compressed as its name says: {error}", where=path
        ) from error
    return packed
