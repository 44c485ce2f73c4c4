"""One changed byte anywhere: `verify` refuses the ISO, `restore` refuses or gives back the vendor's bytes all the same.

The public functions are called in this process, once for each byte; the byte is changed in a private copy and changed
back. A sample goes through the command, as a user would run it. The spots are drawn from every structure of the ISO
and, besides, from all of it; the seed makes them the same in every run.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from bisect import bisect_right
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from respin.errors import RespinError
from respin.progress import SILENT
from respin.provenance import statement
from respin.restore import restore
from respin.verify.verify import VerifyRequest, verify
from tests.end_to_end.conftest import Respun, sha256
from tests.support import rawiso
from tests.support.attacker import MEDIA
from tests.support.forge import Done, Forge, respin

B = 2048
PARTS = 20


class Flipper:
    """A private copy of an ISO in which single bits can be changed and changed back."""

    def __init__(self, source: Path, path: Path) -> None:
        shutil.copy(source, path)
        self.path = path
        self.data = path.read_bytes()
        self._fd = os.open(path, os.O_RDWR)

    def flip(self, offset: int, bit: int) -> None:
        """Change one bit; a second time changes it back."""
        byte = os.pread(self._fd, 1, offset)
        os.pwrite(self._fd, bytes([byte[0] ^ (1 << bit)]), offset)

    def close(self) -> None:
        """Check that all was changed back."""
        os.close(self._fd)
        assert self.path.read_bytes() == self.data


@pytest.fixture(scope="module")
def flipper(respun: Respun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flipper]:
    made = Flipper(respun.iso, tmp_path_factory.mktemp("flips") / "flipped.iso")
    yield made
    made.close()


def structures(data: bytes) -> Dict[str, Tuple[int, int]]:
    """Name -> (offset, length) of the parts of a respun ISO, by a reader that shares nothing with respin."""
    records = {record.path: record for record in rawiso.records(data, False)}
    found = {"MBR": (0, 512), "GPT": (512, 512), "GPT entries": (1024, 1024), "system area": (4096, 32768 - 4096)}
    for at, joliet in rawiso.volumes(data):
        kind = "Joliet" if joliet else "primary"
        found[f"{kind} volume descriptor"] = (at, 883)
        found[f"{kind} path table"] = (rawiso.le(data, at + 140) * B, rawiso.le(data, at + 132))
        found[f"{kind} root directory"] = (rawiso.le(data, at + 158) * B, 200)
    found["boot record"] = (17 * B, 128)
    found["boot catalog"] = (rawiso.le(data, 17 * B + 71) * B, 128)
    for path, record in records.items():
        if not record.is_directory and record.size:
            found[path] = (record.extent * B, record.size)
    for path in ("/respin.json", "/LiveOS/squashfs.img"):
        found[f"record of {path}"] = (records[path].offset, len(records[path].raw))
    start, _ = found["/LiveOS/squashfs.img"]
    found["squashfs superblock"] = (start, 96)
    used = int.from_bytes(data[start + 40 : start + 48], "little")
    found["squashfs tables"] = (start + used - 400, 400)
    slot = found["/respin.sig"]
    found["/respin.sig"] = (slot[0], data.index(b"\n", slot[0]) - slot[0] + 1)
    found["media check"] = MEDIA
    found["backup GPT entries"] = (len(data) - 33 * 512, 256)
    found["backup GPT"] = (len(data) - 512, 92)
    found["the last bytes"] = (len(data) - 16, 16)
    return found


def spots(data: bytes, each: int, anywhere: int) -> Iterator[Tuple[str, int, int]]:
    """(structure, offset, bit): ``each`` of every structure, ``anywhere`` of the whole ISO outside of slot padding."""
    chosen = random.Random(20)
    parts = structures(data)
    slot, length = parts["/respin.sig"]
    for name, (start, size) in parts.items():
        for _ in range(each):
            yield name, start + chosen.randrange(size), chosen.randrange(8)
    for _ in range(anywhere):
        offset = chosen.randrange(len(data))
        if not slot + length <= offset < slot + 8 * B:
            yield "anywhere", offset, chosen.randrange(8)


def not_refused(flipper: Flipper, trust: Path, chosen: Iterator[Tuple[str, int, int]]) -> Tuple[int, List[str]]:
    """How many bytes were tried, and those that `verify` did not refuse as it should."""
    wrong, tried = [], 0
    for name, offset, bit in chosen:
        tried += 1
        flipper.flip(offset, bit)
        try:
            verify(VerifyRequest(flipper.path, trust))
            wrong.append(f"{name}, byte {offset}, bit {bit}: accepted")
        except RespinError as error:
            if error.exit_code not in (3, 4, 7) or flipper.path.name not in str(error.where):
                wrong.append(f"{name}, byte {offset}, bit {bit}: {error.exit_code}, {error}")
        finally:
            flipper.flip(offset, bit)
    return tried, wrong


def test_one_byte_of_each_structure_makes_verify_refuse(forge: Forge, flipper: Flipper) -> None:
    tried, wrong = not_refused(flipper, forge.keys.trust, spots(flipper.data, 1, 20))
    assert wrong == []
    assert tried > 50
    assert verify(VerifyRequest(flipper.path, forge.keys.trust)).complete


def test_a_byte_of_the_statement_that_breaks_it_is_told_with_the_file(respun: Respun) -> None:
    """Whatever the statement says then, the error names what the caller calls it, and is no traceback."""
    raw = rawiso.content(respun.iso.read_bytes(), "/respin.json")
    chosen = random.Random(21)
    placed: List[bool] = []
    for offset in range(0, len(raw), 4):
        changed = bytearray(raw)
        changed[offset] ^= 1 << chosen.randrange(8)
        try:
            statement.parse(bytes(changed), where="the/file.iso")
        except RespinError as error:
            placed.append("the/file.iso" in str(error.where))
    assert all(placed)
    assert len(placed) > len(raw) // 8


def command_accepts(flipper: Flipper, chosen: List[Tuple[str, int, int]], run: Callable[[], Done]) -> List[str]:
    """The bytes with which the command does anything but end with status 3, 4 or 7 and one sentence about the ISO."""
    wrong = []
    for name, offset, bit in chosen:
        flipper.flip(offset, bit)
        done = run()
        flipper.flip(offset, bit)
        said = done.err.count("error: ") == 1 and flipper.path.name in done.err
        if done.code not in (3, 4, 7) or not said:
            wrong.append(f"{name}, byte {offset}, bit {bit}: {done.code}, {done.err}")
    return wrong


def from_each(flipper: Flipper, *names: str) -> List[Tuple[str, int, int]]:
    """One spot of each of these structures."""
    drawn = {name: (name, offset, bit) for name, offset, bit in spots(flipper.data, 1, 40)}
    return [drawn[name] for name in names]


def test_one_byte_of_some_structures_makes_the_commands_refuse(forge: Forge, flipper: Flipper, tmp_path: Path) -> None:
    """The same through the command line."""
    verify_it: List[object] = ["verify", flipper.path, "--trust", forge.keys.trust, "-q"]
    chosen = from_each(flipper, "anywhere", "/respin.sig", "media check", "Joliet path table")
    assert command_accepts(flipper, chosen, lambda: respin(*verify_it)) == []
    stock = tmp_path / "stock.iso"
    chosen = from_each(flipper, "/respin.restore", "/LiveOS/squashfs.img", "primary volume descriptor")
    assert command_accepts(flipper, chosen, lambda: respin("restore", flipper.path, "-o", stock, "-q")) == []
    assert not stock.exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_byte_of_each_structure_makes_the_command_refuse(forge: Forge, flipper: Flipper) -> None:
    command: List[object] = ["verify", flipper.path, "--trust", forge.keys.trust, "-q"]
    assert command_accepts(flipper, list(spots(flipper.data, 1, 40)), lambda: respin(*command)) == []


def two_thousand(data: bytes) -> List[Tuple[str, int, int]]:
    return list(spots(data, 16, 1450))


def test_there_are_two_thousand(flipper: Flipper) -> None:
    assert len(set(two_thousand(flipper.data))) >= 2000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_bytes_make_verify_refuse(forge: Forge, flipper: Flipper, part: int) -> None:
    """In parts, so that one that fails can be run again."""
    tried, wrong = not_refused(flipper, forge.keys.trust, iter(two_thousand(flipper.data)[part::PARTS]))
    assert wrong == []
    assert tried >= 2000 // PARTS


class Map:
    """The restore map of an ISO, read by its documented format alone."""

    def __init__(self, data: bytes) -> None:
        place = structures(data)["/respin.restore"]
        line, _, _ = data[place[0] : sum(place)].partition(b"\n")
        document = json.loads(line)
        numbers = document["copies"]
        self.used = (place[0], len(line) + 1 + document["packed"])
        self.copies = sorted((source, length, base) for base, source, length in zip(*[iter(numbers)] * 3))
        self._starts = [copy[0] for copy in self.copies]

    def vendor(self, offset: int) -> Optional[int]:
        """Where a byte of the respun ISO belongs in the vendor's, if it is copied."""
        source, length, base = self.copies[max(0, bisect_right(self._starts, offset) - 1)]
        return base + offset - source if source <= offset < source + length else None


def placed(restored: Map, offset: int, error: RespinError) -> bool:
    """Whether an error says where the changed byte is: in which piece of the vendor's ISO, or in which file."""
    place, inside = restored.vendor(offset), restored.used[0] <= offset < sum(restored.used)
    piece = re.match(r"bytes (\d+) to (\d+) of the vendor's ISO do not come back", error.what)
    if piece and place is not None:
        return int(piece[1]) <= place <= int(piece[2])
    # The map's own digests fail for another reason; descriptors and records fail when the ISO is opened
    return "respin.restore" in str(error.where) or piece is not None if inside else error.finding != "restore-digest"


def not_noticed(flipper: Flipper, stock: str, output: Path, chosen: List[Tuple[str, int, int]]) -> List[str]:
    """The bytes whose change `restore` did not notice as it should."""
    restored = Map(flipper.data)
    wrong = []
    for name, offset, bit in chosen:
        here = f"{name}, byte {offset}, bit {bit}"
        flipper.flip(offset, bit)
        try:
            restore(flipper.path, output, None, force=False, progress=SILENT)
        except RespinError as error:
            # A volume descriptor that is none, a directory that is none: the ISO was not even opened
            wanted = (3,) if name.startswith("/") and name != "/respin.sig" else (3, 7)
            if error.exit_code not in wanted or flipper.path.name not in str(error.where) or output.exists():
                wrong.append(f"{here}: {error.exit_code}, {error}")
            if not placed(restored, offset, error):
                wrong.append(f"{here}: the vendor's byte {restored.vendor(offset)}; it says {error}, {error.where}")
        else:
            # Not one of the bytes that restoring reads: what came back must be the vendor's all the same
            inside = restored.used[0] <= offset < sum(restored.used)
            if inside or restored.vendor(offset) is not None or sha256(output) != stock:
                wrong.append(f"{here}: not noticed")
            output.unlink()
        finally:
            flipper.flip(offset, bit)
    return wrong


def test_one_byte_of_each_structure_is_noticed_by_restore(forge: Forge, flipper: Flipper, tmp_path: Path) -> None:
    chosen = list(spots(flipper.data, 1, 10))
    assert not_noticed(flipper, sha256(forge.iso), tmp_path / "stock.iso", chosen) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_hundreds_of_bytes_are_noticed_by_restore(forge: Forge, flipper: Flipper, tmp_path: Path, part: int) -> None:
    chosen = list(spots(flipper.data, 5, 300))[part::4]
    assert not_noticed(flipper, sha256(forge.iso), tmp_path / "stock.iso", chosen) == []
