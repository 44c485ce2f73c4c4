"""Numbers and names in an image, and values for them that parsers may trip over."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Dict, List, MutableMapping, Sequence

Parts = MutableMapping[str, bytearray]
"""The content of an image's tables by name, decompressed."""

NAME = "name"
_NAMES = (b".", b"..", b"/", b"a/b", b"\0", b"a\0b", b"\xff", b"../../x")


@dataclass(frozen=True)
class Field:
    """``width`` bytes at ``offset`` of a part: a little-endian number, or raw bytes if the role is a name."""

    part: str
    offset: int
    width: int
    role: str

    def get(self, parts: Parts) -> int:
        """The number there."""
        return int.from_bytes(parts[self.part][self.offset : self.offset + self.width], "little")

    def put(self, parts: Parts, value: int) -> None:
        """Another number; bits that don't fit are left out."""
        value &= (1 << 8 * self.width) - 1
        self.put_bytes(parts, value.to_bytes(self.width, "little"))

    def put_bytes(self, parts: Parts, value: bytes) -> None:
        """Other bytes, padded or cut to the width."""
        value = value[: self.width].ljust(self.width, b"x")
        parts[self.part][self.offset : self.offset + self.width] = value


class Fields:
    """All fields of an image, by what they are."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._roles: Dict[str, List[Field]] = {}
        for field in fields:
            self._roles.setdefault(field.role, []).append(field)
        self._names = sorted(self._roles)

    def spoil(self, parts: Parts, rng: random.Random) -> str:
        """Give one field another value; what was done. Every role has the same chance, however often it is there."""
        role = rng.choice(self._names)
        peers = self._roles[role]
        field = rng.choice(peers)
        other = rng.choice(peers)
        if role == NAME:
            width = field.width
            same_length = [peer for peer in peers if peer.width == width]
            if rng.random() < 0.5:
                other = rng.choice(same_length)
                new = bytes(parts[other.part][other.offset : other.offset + width])
            else:
                new = rng.choice(_NAMES)
            field.put_bytes(parts, new)
            return f"{role} at {field.part}+{field.offset}: {new!r}"
        old, most = field.get(parts), (1 << 8 * field.width) - 1
        choice = rng.randrange(8)
        if choice < 3 and len(peers) > 1:
            new_value = other.get(parts)
            if choice == 0:
                other.put(parts, old)
        elif choice < 5:
            new_value = old + rng.choice((-1, 1, -2, 2, 3, 4, 8, 256, old, -(old // 2), 0x1000))
        elif choice < 7:
            new_value = rng.choice((0, 1, 2, 3, most, most - 1, most >> 1, (most >> 1) + 1, 1 << rng.randrange(64)))
        else:
            new_value = rng.getrandbits(8 * field.width)
        field.put(parts, new_value)
        return f"{role} at {field.part}+{field.offset}: {old:#x} -> {new_value & most:#x}"


def spoil_bytes(data: bytearray, rng: random.Random) -> str:
    """Flip, insert, remove or repeat a few bytes somewhere."""
    if not data:
        return "nothing"
    at = rng.randrange(len(data))
    choice = rng.randrange(6)
    if choice < 2:
        data[at] ^= 1 << rng.randrange(8)
        return f"bit at {at}"
    if choice == 2:
        width = rng.choice((1, 2, 4, 8))
        data[at : at + width] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x01")) * min(width, len(data) - at)
        return f"{width} bytes at {at}"
    if choice == 3:
        other, length = rng.randrange(len(data)), rng.choice((4, 16, 64))
        piece = data[other : other + length]
        data[at : at + len(piece)] = piece
        return f"{length} bytes from {other} at {at}"
    length = rng.choice((1, 2, 4, 12, 100))
    if choice == 4:
        data[at:at] = data[at : at + length]
        return f"{length} bytes more at {at}"
    del data[at : at + length]
    return f"{length} bytes less at {at}"
