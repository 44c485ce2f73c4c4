"""State that follows from other files and is made anew after the transaction: module indexes and the loader's cache.

The Node's own programs make it, in the Node's root, so that the caller can compare it with what it must be.
"""

from __future__ import annotations

import fnmatch
import os
import re
from typing import Callable, List, Sequence, Tuple

from respin import process
from respin.errors import BuildError
from respin.root import chroot, isolation
from respin.root.delta import Delta
from respin.root.mounts import Scratch

_MODULES = re.compile(r"^(?:/usr)?/lib/modules/([^/]+)/")
_LIBRARY = re.compile(r"^(?:/usr(?:/local)?)?/lib(?:32|64|x32)?/(?:.*/)?[^/]+\.so(?:\.[^/]*)?$")
# The cache itself, too: one that a scriptlet wrote is made anew.
_LOADER_CONFIGURATION = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d/*")


def changes_linker_cache(path: str) -> bool:
    """Whether a change of ``path`` may be one of what the loader's cache says."""
    return bool(_LIBRARY.match(path)) or any(fnmatch.fnmatchcase(path, one) for one in _LOADER_CONFIGURATION)


class Regenerator:
    """Runs the Node's depmod and ldconfig where a delta calls for it."""

    def __init__(self, scratch: Scratch, uname: str, timeout: float, transcript: isolation.Transcript) -> None:
        self._scratch = scratch
        self._uname = uname
        self._timeout = timeout
        self._transcript = transcript

    def run(self, delta: Delta) -> Tuple[str, ...]:
        """Regenerate and name what was: "depmod RELEASE" and "ldconfig"."""
        done: List[str] = []
        for release in self._kernel_releases(delta):
            self._depmod(release)
            done.append(f"depmod {release}")
        if self._libraries_changed(delta) and self._execute("ldconfig", ("ldconfig", "-i")):
            done.append("ldconfig")
        return tuple(done)

    def _kernel_releases(self, delta: Delta) -> Sequence[str]:
        """The vendor's kernel releases below whose modules directory anything changed."""
        releases = set()
        for entry in delta:
            match = _MODULES.match(entry.path)
            if match:
                releases.add((os.path.dirname(entry.path[: match.end() - 1]), match[1]))
        return sorted(
            release for parent, release in releases if os.path.isdir(f"{self._scratch.lower}{parent}/{release}")
        )

    def _libraries_changed(self, delta: Delta) -> bool:
        if not os.path.lexists(f"{self._scratch.lower}/etc/ld.so.cache"):
            return False
        return any(changes_linker_cache(entry.path) for entry in delta)

    def _depmod(self, release: str) -> None:
        if self._execute("depmod", ("depmod", release)):
            return
        done = process.run(["depmod", "-b", self._scratch.merged, release], check=False, timeout=self._timeout)
        if done.returncode != 0:
            raise BuildError(done.explain(), finding="depmod-failed")

    def _execute(self, program: str, argv: Sequence[str]) -> bool:
        """Run the Node's own ``program`` in the Node's root; False if it has none."""
        places = [f"{directory}/{program}" for directory in process.SEARCH_PATH.split(":")]
        path = next((place for place in places if chroot.resolve(self._scratch.merged, place)), None)
        if path is None:
            return False
        outcome = isolation.run(
            self._task((path, *argv[1:])),
            title=f"the Node's {program}",
            keep=(),
            timeout=self._timeout,
            transcript=self._transcript,
        )
        if outcome.status != 0:
            raise BuildError(
                f"the Node's `{' '.join(argv)}` failed with status {outcome.status}: {self._transcript.tail()}",
                finding=f"{program}-failed",
            )
        return True

    def _task(self, argv: Sequence[str]) -> Callable[[], None]:
        def task() -> None:
            chroot.furnish(self._scratch.merged, self._uname)
            chroot.lock_in(self._scratch.merged, self._timeout)
            isolation.execute(argv)

        return task
