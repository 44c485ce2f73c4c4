"""The hashes of names by which ext directories are indexed (Linux, fs/ext4/hash.c): legacy, half MD4, TEA.

All are 32-bit, with the lowest bit zero: that bit marks an index entry whose hash began in the block before.
"""

from __future__ import annotations

import struct
from typing import List, Sequence

LEGACY, HALF_MD4, TEA = 0, 1, 2
# The versions as they stand in an index; 3 to 5 are the same with bytes taken as unsigned.
VERSIONS = range(6)
_MASK = 0xFFFFFFFF
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_END_OF_FILE = 0xFFFFFFFE
_DELTA = 0x9E3779B9
_K2, _K3 = 0o13240474631, 0o15666365641
# Of half MD4's rounds: the constant, the shifts, which word of the message each step takes.
_ROUNDS = (
    (0, (3, 7, 11, 19), (0, 1, 2, 3, 4, 5, 6, 7)),
    (_K2, (3, 5, 9, 13), (1, 3, 5, 7, 0, 2, 4, 6)),
    (_K3, (3, 9, 11, 15), (3, 7, 2, 6, 1, 5, 0, 4)),
)


def name_hash(name: bytes, version: int, seed: Sequence[int]) -> int:
    """The hash of ``name``; ``version`` is one of :data:`VERSIONS`, ``seed`` are the superblock's four words."""
    unsigned, kind = divmod(version, 3)
    letters = list(name) if unsigned else list(struct.unpack(f"{len(name)}b", name))
    if kind == LEGACY:
        found = _legacy(letters)
    else:
        buffer = list(seed if any(seed) else _START)
        words, transform, result = (8, _half_md4, 1) if kind == HALF_MD4 else (4, _tea, 0)
        for at in range(0, len(letters), words * 4):
            transform(buffer, _message(letters[at:], words))
        found = buffer[result]
    found &= ~1
    return found if found != _END_OF_FILE else _END_OF_FILE - 2


def _legacy(letters: Sequence[int]) -> int:
    older, newer = 0x37ABE8F9, 0x12A3FE2D
    for letter in letters:
        found = (older + (newer ^ (letter * 7152373 & _MASK))) & _MASK
        if found & 0x80000000:
            found -= 0x7FFFFFFF
        older, newer = newer, found
    return newer << 1 & _MASK


def _message(letters: Sequence[int], words: int) -> List[int]:
    """The next ``words`` words; what is missing is filled with the length of what is left."""
    pad = len(letters) & 0xFF
    pad |= pad << 8
    pad |= pad << 16
    found: List[int] = []
    value = pad
    for number, letter in enumerate(letters[: words * 4]):
        value = (letter + (value << 8)) & _MASK
        if number % 4 == 3:
            found.append(value)
            value = pad
    if len(found) < words:
        found.append(value)
    return found + [pad] * (words - len(found))


def _half_md4(buffer: List[int], message: Sequence[int]) -> None:
    state = list(buffer)
    for number, (constant, shifts, order) in enumerate(_ROUNDS):
        for step, word in enumerate(order):
            a, b, c, d = (state[(index - step) % 4] for index in range(4))
            mixed = (d ^ (b & (c ^ d)), (b & c) + ((b ^ c) & d), b ^ c ^ d)[number]
            total = (a + mixed + message[word] + constant) & _MASK
            shift = shifts[step % 4]
            state[-step % 4] = (total << shift | total >> (32 - shift)) & _MASK
    buffer[:] = [(one + other) & _MASK for one, other in zip(buffer, state)]


def _tea(buffer: List[int], message: Sequence[int]) -> None:
    total = 0
    one, other = buffer[:2]
    a, b, c, d = message
    for _ in range(16):
        total = (total + _DELTA) & _MASK
        one = (one + (((other << 4) + a) ^ (other + total) ^ ((other >> 5) + b))) & _MASK
        other = (other + (((one << 4) + c) ^ (one + total) ^ ((one >> 5) + d))) & _MASK
    buffer[:2] = [(buffer[0] + one) & _MASK, (buffer[1] + other) & _MASK]
