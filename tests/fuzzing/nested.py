"""A squashfs with an ext image in it: either of the two is spoiled, the inner one below sound compression."""

from __future__ import annotations

import random
from typing import Tuple

from respin.byteview import BytesView
from respin.formats.squashfs import SquashfsImage
from tests.fuzzing.ext import IMAGE, ExtParts
from tests.fuzzing.fields import Parts
from tests.fuzzing.squashfs import SquashfsParts

INNER = "/LiveOS/rootfs.img"


class NestedParts:
    """An image, and what can be spoiled in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._outer = SquashfsParts(data)
        image = SquashfsImage.open(BytesView(data, "seed"))
        self._block = image.block_size
        content = image.read_file(INNER)
        assert len(content) % self._block == 0, "a tail end would lie in a fragment"
        self._inner = ExtParts(content)
        self._numbers = self._outer.blocks_of(image.stat(INNER).number)

    def spoil(self, rng: random.Random) -> Tuple[bytes, str]:
        """A damaged image, and what was done to it."""
        if rng.random() < 0.5:
            return self._outer.spoil(rng)
        parts: Parts = {IMAGE: bytearray(self._inner.data)}
        done = self._inner.spoil_parts(parts, rng)
        new, old = parts[IMAGE], self._inner.data
        spoiled = self._outer.whole()
        for index, number in enumerate(self._numbers):
            start, end = index * self._block, (index + 1) * self._block
            if number is not None and new[start:end] != old[start:end]:
                self._outer.replaced(spoiled, number, bytes(new[start:end]))
        return self._outer.pack(spoiled), f"inside: {done}"
