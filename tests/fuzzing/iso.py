"""ISO images: every number that names or measures something is spoiled, whole blocks are moved and cut off; and what a
splice makes of the damaged image is held against it by readers that share nothing with the splicer.
"""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

from respin.byteview import BytesView
from respin.errors import RespinError
from respin.formats.iso9660 import IsoImage, NewFile, Place, SplicePlan, plan_splice
from respin.formats.iso9660.ends import unchecked_blocks
from respin.segments import Data, Segment
from tests.fuzzing.fields import spoil_bytes
from tests.support import iso, layouts, rawiso
from tests.support.splicing import joined

B = rawiso.B
_SMALL: Dict[str, iso.Content] = {
    iso.PAYLOAD: iso.noise("fuzz", 20_001),
    "isolinux/vmlinuz0": iso.noise("kernel", 3_003),
    "isolinux/initrd0.img": iso.noise("initrd", 5_501),
    "images/pxeboot/vmlinuz": iso.noise("kernel 2", 4_001),
    "images/pxeboot/initrd.img": iso.noise("initrd 2", 7_003),
    "EFI/BOOT/BOOTX64.EFI": iso.noise("loader", 3_000),
}
_LITTLE, _BIG, _BOTH = "little", "big", "both"
_MAX = 0xFFFFFFFF

_Number = Tuple[int, int, str]
"""Byte offset, width of one half, and the byte order of a number in an image."""


def maker(layout: str) -> Callable[[Path], bytes]:
    """What makes a small image of a layout."""

    def make(directory: Path) -> bytes:
        tree = layouts.make_tree(directory, _SMALL, esp_kib=64)
        path = directory / "image.iso"
        layouts.LAYOUTS[layout](tree, path, iso.VOLUME_ID)
        return path.read_bytes()

    return make


class IsoParts:
    """An image, and the numbers in it by what they are."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._numbers: Dict[str, List[_Number]] = {}
        self._metadata: List[int] = [0]
        for first, base in rawiso.sets(data):
            for at, joliet in rawiso.volumes(data, base, first):
                self._volume(at, base)
                for record in rawiso.records(data, joliet, base):
                    self._record(record)
        catalogue = rawiso.le(data, 17 * B + 71)
        self._add("boot record", 17 * B + 71, 4, _LITTLE)
        self._metadata.append(catalogue * B)
        for at in range(catalogue * B + 32, catalogue * B + 8 * 32, 32):
            for offset, width in ((0, 1), (2, 2), (6, 2), (8, 4)):
                self._add(f"boot entry {offset}", at + offset, width, _LITTLE)
            if data[at] == 0x88:
                image = rawiso.le(data, at + 8) * B
                for offset in (8, 12, 16):
                    self._add("boot information table", image + offset, 4, _LITTLE)
        self._tables()

    def _add(self, role: str, at: int, width: int, order: str) -> None:
        self._numbers.setdefault(role, []).append((at, width, order))

    def _volume(self, at: int, base: int) -> None:
        self._metadata.append(at)
        for name, offset, width in (("space", 80, 4), ("set", 120, 2), ("block", 128, 2), ("table size", 132, 4)):
            self._add(f"volume {name}", at + offset, width, _BOTH)
        self._add("kind", at, 1, _LITTLE)
        self._add("root extent", at + 158, 4, _BOTH)
        self._add("root size", at + 166, 4, _BOTH)
        for offset, order in ((140, _LITTLE), (148, _BIG)):
            self._add("path table", at + offset, 4, order)
            table = (struct.unpack_from("<L" if order == _LITTLE else ">L", self.data, at + offset)[0] + base) * B
            self._metadata.append(table)
            entry, end = table, table + rawiso.le(self.data, at + 132)
            while entry < end:
                self._add("path table entry", entry + 2, 4, order)
                entry += 8 + self.data[entry] + self.data[entry] % 2

    def _record(self, record: rawiso.Raw) -> None:
        at = record.offset
        self._metadata.append(at // B * B)
        kind = "directory" if record.is_directory else "file"
        self._add(f"{kind} extent", at + 2, 4, _BOTH)
        self._add(f"{kind} size", at + 10, 4, _BOTH)
        self._add("length", at, 1, _LITTLE)
        self._add("flags", at + 25, 1, _LITTLE)
        self._add("name length", at + 32, 1, _LITTLE)
        for signature, offset, entry in record.entries:
            self._add("entry length", offset + 2, 1, _LITTLE)
            if signature in (b"CE", b"CL", b"PL"):
                for place in range(4, len(entry) - 7, 8):
                    self._add(signature.decode(), offset + place, 4, _BOTH)

    def _tables(self) -> None:
        self._add("boot sector", 432, 8, _LITTLE)
        for at in range(446, 510, 16):
            for offset, width in ((4, 1), (5, 1), (6, 1), (8, 4), (12, 4)):
                self._add(f"partition {offset}", at + offset, width, _LITTLE)
        if self.data[512:520] == b"EFI PART":
            for offset in (24, 32, 40, 48, 72):
                self._add("GPT header", 512 + offset, 8, _LITTLE)
            for offset in (12, 80, 84):
                self._add("GPT numbers", 512 + offset, 4, _LITTLE)
            array = struct.unpack_from("<Q", self.data, 584)[0] * 512
            for at in range(array, array + 3 * 128, 128):
                self._add("GPT entry", at + 32, 8, _LITTLE)
                self._add("GPT entry", at + 40, 8, _LITTLE)
        if self.data[B : B + 2] == b"PM":
            for at in range(B, 4 * B, B):
                for offset in (4, 8, 12, 84):
                    self._add("Apple partition", at + offset, 4, _BIG)

    def spoil(self, rng: random.Random) -> Tuple[bytes, str]:
        """A damaged image, and what was done to it."""
        data = bytearray(self.data)
        done = [self._once(data, rng) for _ in range(rng.choice((1, 1, 1, 1, 2)))]
        if rng.random() < 0.5:
            done.append(_mend_gpt(data))
        return bytes(data), "; ".join(done)

    def _once(self, data: bytearray, rng: random.Random) -> str:
        choice = rng.randrange(20)
        if choice == 0:
            size = rng.choice((rng.randrange(len(data)), rng.randrange(len(data) // B) * B))
            del data[size:]
            return f"cut at {size}"
        if choice == 1:
            one, other = rng.choice(self._metadata), rng.choice(self._metadata)
            data[one : one + B] = data[other : other + B]
            return f"block at {other} also at {one}"
        if choice == 2:
            start = rng.choice(self._metadata)
            piece = data[start : start + B]
            done = spoil_bytes(piece, rng)
            data[start : start + B] = piece[:B].ljust(B, b"\0")
            return f"in the block at {start}: {done}"
        return self._number(data, rng)

    def _number(self, data: bytearray, rng: random.Random) -> str:
        role = rng.choice(sorted(self._numbers))
        at, width, order = rng.choice(self._numbers[role])
        half = order if order != _BOTH else _LITTLE
        old = int.from_bytes(data[at : at + width], "little" if half == _LITTLE else "big")
        peer, peer_width, peer_order = rng.choice(self._numbers[rng.choice(sorted(self._numbers))])
        theirs = int.from_bytes(data[peer : peer + peer_width], "big" if peer_order == _BIG else "little")
        new = rng.choice(
            (
                theirs,
                theirs,
                theirs + 1,
                old + rng.choice((-2, -1, 1, 2, 3, 8, 16, -16, 512, 2048)),
                rng.choice((0, 1, 16, 17, 18, 29, _MAX, _MAX >> 1)),
                rng.randrange(len(data) // B + 3),
                rng.randrange(len(data) + 3),
                rng.getrandbits(8 * width),
            )
        )
        new &= (1 << 8 * width) - 1
        halves = rng.choice(("little", "big")) if order == _BOTH and rng.random() < 0.2 else order
        if halves in (_LITTLE, _BOTH):
            data[at : at + width] = new.to_bytes(width, "little")
        if halves in (_BIG, _BOTH):
            start = at + (width if order == _BOTH else 0)
            data[start : start + width] = new.to_bytes(width, "big")
        return f"{role} at {at}: {old:#x} -> {new:#x}, {halves}"


def _mend_gpt(data: bytearray) -> str:
    """Make both checksums of the primary table right again, so that its numbers come through."""
    if len(data) < 64 * 512 or data[512:520] != b"EFI PART":
        return "no GPT"
    lba, count, size = struct.unpack_from("<QLL", data, 584)
    if lba * 512 + count * size <= len(data):
        struct.pack_into("<L", data, 600, zlib.crc32(data[lba * 512 : lba * 512 + count * size]))
    length = min(rawiso.le(bytes(data), 524), 512)
    header = bytes(data[512:528]) + bytes(4) + bytes(data[532 : 512 + length])
    struct.pack_into("<L", data, 528, zlib.crc32(header))
    return "GPT mended"


def read_iso(data: bytes, _seed: bytes) -> List[RespinError]:
    """Read an image and splice it, and hold the outcome against it."""
    rng = random.Random(zlib.crc32(data))
    try:
        image = IsoImage.open(BytesView(data, "image"))
        image.describe()
        for path in list(image.files)[:3]:
            image.read(path)
        replace, new = _request(image, rng)
        places = (Place.BESIDE, Place.END, Place.UNCHECKED)
        add = [NewFile(path, len(content), place) for (path, content), place in zip(new.items(), places)]
        plan = plan_splice(image, {path: len(content) for path, content in replace.items()}, add)
        content: Dict[str, Sequence[Segment]] = {name: [Data(piece)] for name, piece in {**replace, **new}.items()}
        out = joined(data, plan.segments(content))
    except RespinError as error:
        return [error]
    require_same(data, out, replace, new)
    _require_readable(plan, out, replace, new)
    return []


def _request(image: IsoImage, rng: random.Random) -> Tuple[Dict[str, bytes], Dict[str, bytes]]:
    """Files to replace (none with a boot information table, no two of one extent) and to add, by what there is."""
    taken = {entry.lba for entry in image.boot} | {None, image.catalog.lba if image.catalog else None}
    replace: Dict[str, bytes] = {}
    for path in rng.sample(sorted(image.files), min(len(image.files), rng.choice((1, 1, 2, 4)))):
        file = image.files[path]
        if file.lba not in taken:
            taken.add(file.lba)
            replace[path] = rng.randbytes(rng.choice((0, 5, 2048, 30_000, min(file.size, 50_000))))
    # What Rock Ridge moves deep directories to is in its own tree only, so nothing can be put there.
    directory = rng.choice(sorted(path for path in image.listing.directories if not path.endswith("rr_moved")))
    parents = (directory, "/", "/")
    new = {f"{parent.rstrip('/')}/fuzz.{number}": rng.randbytes(3000) for number, parent in enumerate(parents)}
    return replace, new


def require_same(base: bytes, out: bytes, replace: Dict[str, bytes], new: Dict[str, bytes]) -> None:
    """Every tree of both images, walked by a reader that knows nothing of respin: the same but for what was asked."""
    assert rawiso.bases(out) == rawiso.bases(base)
    loose = _loose(base)
    wanted = sorted(replace.values())
    for set_base in rawiso.bases(base):
        for joliet in sorted({joliet for _, joliet in rawiso.volumes(base, set_base)}):
            before = rawiso.records(base, joliet, set_base)
            after = rawiso.records(out, joliet, set_base)
            names = {path.rpartition("/")[2] for path in new}
            kept = [
                record for record in after if record.name.rpartition(";")[0] not in names and record.name not in names
            ]
            assert len(kept) == len(before)
            replaced = []
            for old, now in zip(before, kept):
                assert (old.path, old.identifier, old.raw[18:33]) == (now.path, now.identifier, now.raw[18:33])
                if old.is_directory or not old.size:
                    continue
                was, found = _content(base, old), _content(out, now)
                if was != found and old.extent not in loose:
                    replaced.append(found)
            assert set(replaced) <= set(wanted), "a file that was not to be replaced is another"
            added = [_content(out, record) for record in after if record not in kept]
            assert sorted(added) == sorted(new.values())
    _require_boot(base, out)
    _require_gpt(base, out)


def _content(data: bytes, record: rawiso.Raw) -> bytes:
    return data[record.extent * B : record.extent * B + record.size]


def _loose(base: bytes) -> "set[int]":
    """Blocks of what holds its own place: the boot catalogue and images with a boot information table."""
    if base[17 * B : 17 * B + 30] != b"\0CD001\1EL TORITO SPECIFICATION":
        return set()
    catalogue = rawiso.le(base, 17 * B + 71)
    entries = range(catalogue * B + 32, min(catalogue * B + B, len(base) - 31), 32)
    return {catalogue} | {rawiso.le(base, at + 8) for at in entries if base[at] in (0x88, 0)}


def _require_boot(base: bytes, out: bytes) -> None:
    """Each boot image is found again by the catalogue."""
    if base[17 * B : 17 * B + 30] != b"\0CD001\1EL TORITO SPECIFICATION":
        return
    before, after = rawiso.le(base, 17 * B + 71) * B, rawiso.le(out, 17 * B + 71) * B
    for offset in range(32, 5 * 32, 32):
        if base[before + offset] == 0x88:
            old, new = rawiso.le(base, before + offset + 8) * B, rawiso.le(out, after + offset + 8) * B
            assert base[old + 64 : old + 512] == out[new + 64 : new + 512], "a boot image was lost"


def _require_gpt(base: bytes, out: bytes) -> None:
    if base[512:520] != b"EFI PART":
        return
    for header in (1, struct.unpack_from("<Q", out, 544)[0]):
        raw = out[header * 512 : header * 512 + 512]
        length, crc = struct.unpack_from("<LL", raw, 12)
        assert zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) == crc, "a GPT header's checksum is wrong"
        lba, count, size, entries = struct.unpack_from("<QLLL", raw, 72)
        assert zlib.crc32(out[lba * 512 : lba * 512 + count * size]) == entries, "a GPT's checksum is wrong"


def _require_readable(plan: SplicePlan, out: bytes, replace: Dict[str, bytes], new: Dict[str, bytes]) -> None:
    """respin reads its own outcome, and finds again where the media check ends."""
    image = IsoImage.open(BytesView(out, "spliced"))
    for path, content in {**replace, **new}.items():
        assert image.read(path) == content, path
    assert unchecked_blocks(image) == plan.unchecked_blocks
