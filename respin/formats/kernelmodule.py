"""Linux kernel modules: what a ``.ko`` file says of itself. ELF (System V gABI), sections as modpost writes them.

``.modinfo`` holds NUL-terminated ``key=value`` texts, ``__versions`` the CRC of every symbol the module was compiled
against (struct modversion_info: a long and a name, 64 bytes together; from Linux 6.13 on also ``__version_ext_crcs``
and ``__version_ext_names``). A signed module ends with a PKCS #7 message, a struct module_signature and a magic text
(Linux, Documentation/admin-guide/module-signing.rst).
"""

from __future__ import annotations

import lzma
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple

from respin.errors import MalformedError, UnsupportedError
from respin.limits import LIMITS

SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">BBBBB3xI")  # algorithm, hash, id_type, signer_len, key_id_len, sig_len
_RECORD = 64
_MOST_SECTIONS = 1 << 16
_MOST_SYMBOLS = 1 << 20
_LONGEST_NAME = 1024  # the kernel's symbols have 512 at most
_MOST_TEXT = 16 << 20  # of a section of texts
_ABSOLUTE, _NOBITS = 0xFFF1, 8
_CRC = "__crc_"
_EXPORTED = "__ksymtab_"


@dataclass(frozen=True)
class KernelModule:
    """What a module says. ``versions`` maps symbols to the CRCs it was compiled with, ``exports`` its own to theirs
    (None where it has no CRC). ``imports`` are the symbols it leaves to others. ``signature`` is the appended PKCS #7
    message, empty if there is none.
    """

    name: str
    vermagic: str
    depends: Tuple[str, ...]
    firmware: Tuple[str, ...]
    aliases: Tuple[str, ...]
    versions: Mapping[str, int]
    imports: FrozenSet[str]
    exports: Mapping[str, "int | None"]
    signature: bytes
    softdeps: Tuple[str, ...] = ()
    weakdeps: Tuple[str, ...] = ()

    @property
    def release(self) -> str:
        """The kernel release it was built for."""
        return self.vermagic.split(" ", 1)[0]


class _Section(NamedTuple):
    name: str
    kind: int
    offset: int
    size: int
    link: int


def module_name(path: str) -> str:
    """The kernel's name for the module in ``path``, or an empty string if it is none."""
    for suffix in SUFFIXES:
        if path.endswith(suffix):
            return path.rsplit("/", 1)[-1][: -len(suffix)].replace("-", "_")
    return ""


def read_module(data: bytes, path: str, where: str) -> KernelModule:
    """Parse a module that may be compressed, as ``path`` says; ``where`` is for messages.

    Raises MalformedError for what is no module, UnsupportedError for a compression that cannot be read here.
    """
    data, signature = _split_signature(_unpacked(data, path, where))
    try:
        return _Elf(data, where).module(module_name(path), signature)
    except (struct.error, OverflowError, IndexError) as error:
        raise _bad(where, "its tables leave the file") from error


def _unpacked(data: bytes, path: str, where: str) -> bytes:
    limit = LIMITS.kernel_module
    try:
        if path.endswith(".gz"):
            data = zlib.decompressobj(31).decompress(data, limit + 1)
        elif path.endswith(".xz"):
            data = lzma.LZMADecompressor(memlimit=limit).decompress(data, limit + 1)
        elif path.endswith(".zst"):
            data = _zstd(where)(data)
    except (zlib.error, lzma.LZMAError) as error:
        raise _bad(where, f"it is not compressed as its name says: {error}") from error
    if len(data) > limit:
        raise UnsupportedError(f"a kernel module of more than {limit} bytes", where=where)
    return data


def _zstd(where: str) -> Callable[[bytes], bytes]:
    try:
        import zstandard
    except ImportError:
        raise UnsupportedError(
            "the kernel module is compressed with zstd, and no library for it is installed",
            where=where,
            remedy="pip install 'respin[compressors]'",
            finding="compressor",
        ) from None

    def decompress(data: bytes) -> bytes:
        try:
            reader: Any = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
            content: bytes = reader.read(LIMITS.kernel_module + 1)
        except zstandard.ZstdError as error:
            raise _bad(where, f"it is not compressed as its name says: {error}") from error
        return content

    return decompress


def _split_signature(data: bytes) -> Tuple[bytes, bytes]:
    """The module without its appended signature, and that."""
    if not data.endswith(_SIGNED):
        return data, b""
    end = len(data) - len(_SIGNED) - _SIGNATURE.size
    if end < 0:
        return data, b""
    *_, length = _SIGNATURE.unpack_from(data, end)
    if length > end:
        return data, b""
    return data[: end - length], data[end - length : end]


class _Elf:
    """The sections of a relocatable ELF file of any class and byte order."""

    def __init__(self, data: bytes, where: str) -> None:
        if data[:4] != b"\x7fELF" or len(data) < 64 or data[4] not in (1, 2) or data[5] not in (1, 2):
            raise _bad(where, "it is not an ELF file")
        self._data = data
        self._where = where
        self._order = "<" if data[5] == 1 else ">"
        self._wide = data[4] == 2
        if self._unpack("H", 16)[0] != 1:
            raise _bad(where, "it is not relocatable")
        self._sections = self._read_sections()
        self._by_name = {section.name: section for section in self._sections}

    def module(self, name: str, signature: bytes) -> KernelModule:
        info: Dict[str, List[str]] = {}
        for text in self._content(".modinfo").split(b"\0"):
            key, found, value = text.partition(b"=")
            if found:
                info.setdefault(key.decode("utf-8", "replace"), []).append(value.decode("utf-8", "replace"))
        if not info.get("vermagic"):
            raise _bad(self._where, "it has no vermagic, so it is no kernel module")
        imports, exports = self._symbols()
        return KernelModule(
            name=info.get("name", [name])[0],
            vermagic=info["vermagic"][0],
            depends=tuple(one for one in info.get("depends", [""])[0].split(",") if one),
            firmware=tuple(info.get("firmware", ())),
            aliases=tuple(info.get("alias", ())),
            versions=self._versions(),
            imports=imports,
            exports=exports,
            signature=signature,
            softdeps=tuple(info.get("softdep", ())),
            weakdeps=tuple(info.get("weakdep", ())),
        )

    def _versions(self) -> Dict[str, int]:
        found: Dict[str, int] = {}
        records, width = self._content("__versions"), 8 if self._wide else 4
        for at in range(0, len(records) - _RECORD + 1, _RECORD):
            (crc,) = struct.unpack_from(self._order + ("Q" if self._wide else "I"), records, at)
            found[_text(records, at + width, _RECORD - width)] = crc & 0xFFFFFFFF
        names = [name for name in self._content("__version_ext_names").split(b"\0") if name]
        crcs = self._content("__version_ext_crcs")
        for number, name in enumerate(names[: len(crcs) // 4]):
            found[name.decode("ascii", "replace")] = struct.unpack_from(self._order + "I", crcs, 4 * number)[0]
        found.pop("", None)
        return found

    def _symbols(self) -> Tuple[FrozenSet[str], Dict[str, "int | None"]]:
        table = next((section for section in self._sections if section.kind == 2), None)
        if table is None:
            return frozenset(), {}
        entry = struct.Struct(self._order + ("IBBHQQ" if self._wide else "IIIBBH"))
        if table.size // entry.size > _MOST_SYMBOLS or table.link >= len(self._sections):
            raise _bad(self._where, "its symbol table is impossible")
        names, content = self._bytes(self._sections[table.link]), self._bytes(table)
        imports, crcs, exported = set(), {}, set()
        for fields in entry.iter_unpack(content[: len(content) - len(content) % entry.size]):
            place, shndx, value = (fields[0], fields[3], fields[4]) if self._wide else (fields[0], fields[5], fields[1])
            name = _text(names, place)
            if not shndx and name:
                imports.add(name)
            elif name.startswith(_CRC):
                crcs[name[len(_CRC) :]] = self._crc(shndx, value)
            elif name.startswith(_EXPORTED):
                exported.add(name[len(_EXPORTED) :])
        imports.discard("_GLOBAL_OFFSET_TABLE_")
        return frozenset(imports), {name: crcs.get(name) for name in sorted(exported | set(crcs))}

    def _crc(self, shndx: int, value: int) -> int:
        """The CRC of an exported symbol: the value of an absolute symbol, or a word in a section."""
        if shndx == _ABSOLUTE:
            return value & 0xFFFFFFFF
        section = self._sections[shndx]
        if section.kind == _NOBITS or value + 4 > section.size:
            raise _bad(self._where, "the CRC of a symbol lies outside its section")
        word: int = self._unpack("I", section.offset + value)[0]
        return word

    def _read_sections(self) -> List[_Section]:
        (start,) = self._unpack("Q", 40) if self._wide else self._unpack("I", 32)
        size, count, names = self._unpack("HHH", 58 if self._wide else 46)
        layout = "IIQQQQIIQQ" if self._wide else "IIIIIIIIII"
        if size != struct.calcsize(self._order + layout) or not count or count > _MOST_SECTIONS or names >= count:
            raise _bad(self._where, "its section headers are impossible")
        headers = [self._unpack(layout, start + number * size) for number in range(count)]
        texts = self._bytes(_Section("", headers[names][1], headers[names][4], headers[names][5], 0))
        return [_Section(_text(texts, one[0]), one[1], one[4], one[5], one[6]) for one in headers]

    def _content(self, name: str) -> bytes:
        section = self._by_name.get(name)
        if section is not None and section.size > _MOST_TEXT:
            raise _bad(self._where, f"its section {name} has {section.size} bytes")
        return b"" if section is None else self._bytes(section)

    def _bytes(self, section: _Section) -> bytes:
        if section.kind == _NOBITS:
            return b""
        if section.offset + section.size > len(self._data):
            raise _bad(self._where, f"its section {section.name or 'of names'} reaches behind the end of the file")
        return self._data[section.offset : section.offset + section.size]

    def _unpack(self, layout: str, offset: int) -> Tuple[Any, ...]:
        return struct.unpack_from(self._order + layout, self._data, offset)


def _text(data: bytes, start: int, most: int = _LONGEST_NAME) -> str:
    end = data.find(b"\0", start, start + most)
    return data[start : end if end >= 0 else start + most].decode("utf-8", "replace")


def _bad(where: str, what: str) -> MalformedError:
    return MalformedError(
        f"this is not a kernel module that can be loaded: {what}",
        where=where,
        remedy="look at the file with modinfo; build the plugin anew if it is damaged",
        finding="bad-module",
    )
