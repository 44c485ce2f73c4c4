"""A sparse file in memory, which moves to a disk when it holds too much.

Thousands of scattered pieces cost a file system on a disk seconds, most of them when the file is given up; in memory
they cost nothing but their pages.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Optional, Tuple, Type

from respin.writing import pwrite_all

_STEP = 1 << 20


class SparseSpool:
    """Two files without names, of which one is in use: ``memory``, and ``disk`` in ``directory``. A context manager.

    Other processes that are to have it must get both descriptors. At most ``limit`` bytes are held in memory.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by close()
        self.disk = self._file.fileno()
        self.memory = os.memfd_create("respin-spool", os.MFD_CLOEXEC)
        self.on_disk = False
        self._left = limit

    @property
    def state(self) -> Tuple[bool, int]:
        """What another process that wrote to it has to tell."""
        return self.on_disk, self._left

    @state.setter
    def state(self, told: Tuple[bool, int]) -> None:
        self.on_disk, self._left = told

    @property
    def descriptors(self) -> Tuple[int, int]:
        """``memory`` and ``disk``."""
        return self.memory, self.disk

    def resize(self, size: int) -> None:
        """Make it ``size`` bytes long."""
        os.ftruncate(self.disk if self.on_disk else self.memory, size)

    def write(self, offset: int, data: bytes) -> None:
        """Write at byte ``offset``."""
        self.reserve(len(data))
        pwrite_all(self.disk if self.on_disk else self.memory, data, offset)

    def reserve(self, length: int) -> None:
        """Make sure that ``length`` bytes more will not be too many, if need be by moving to the disk."""
        self._left -= length
        if self._left < 0 and not self.on_disk:
            self._move()

    def _move(self) -> None:
        size = os.fstat(self.memory).st_size
        os.ftruncate(self.disk, size)
        end = 0
        while True:
            try:
                start = os.lseek(self.memory, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # there is nothing more but a hole
            end = os.lseek(self.memory, start, os.SEEK_HOLE)
            for at in range(start, end, _STEP):
                pwrite_all(self.disk, os.pread(self.memory, min(_STEP, end - at), at), at)
        os.ftruncate(self.memory, 0)
        self.on_disk = True

    def close(self) -> None:
        """Give both files up."""
        self._file.close()
        os.close(self.memory)

    def __enter__(self) -> "SparseSpool":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
