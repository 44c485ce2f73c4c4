"""The plugins' bundles: verified in threads of their own, while the base is hashed (GnuPG and rpm do most of it), and
their packages as bytes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import List, Sequence, Tuple

from respin.bundle import VerifiedBundle, verify
from respin.byteview import FileView
from respin.medium.driverdisk import Packages
from respin.plan import Package
from respin.progress import Progress
from respin.trust import TrustStore

_THREADS = 2


class Verifying:
    """Verifications that have begun. ``stack`` waits for them and closes what they gave, whatever happens."""

    def __init__(self, paths: Sequence[Path], trust: TrustStore, tmpdir: Path, stack: ExitStack) -> None:
        self._paths = tuple(paths)
        self._futures: List["Future[VerifiedBundle]"] = []
        stack.callback(self._close)
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS, thread_name_prefix="bundle"))
        stack.callback(self._cancel)
        self._futures += [pool.submit(verify, path, trust, tmpdir) for path in self._paths]

    def wait(self, progress: Progress) -> Tuple[VerifiedBundle, ...]:
        """The bundles in their order; the first one that is refused raises."""
        verified: List[VerifiedBundle] = []
        for path, future in zip(self._paths, self._futures):
            with progress.step(f"verifying {path.name}"):
                verified.append(future.result())
        return tuple(verified)

    def _cancel(self) -> None:
        for future in self._futures:
            future.cancel()

    def _close(self) -> None:
        for future in self._futures:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()


def packages_of(bundles: Sequence[VerifiedBundle]) -> Packages:
    """The verified bytes of the bundles' packages, as long as the bundles are open."""
    rpms = {rpm.sha256: rpm for bundle in bundles for rpm in bundle.rpms}

    def content_of(package: Package) -> bytes:
        rpm = rpms[package.sha256]
        return FileView(rpm.fd, rpm.file_name, 0, rpm.size).read(0, rpm.size)

    return content_of
