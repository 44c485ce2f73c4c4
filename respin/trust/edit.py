"""Adding a key to a trust store."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from respin.errors import BuildError, UsageError
from respin.formats.openpgp import read_keys
from respin.scratch import Workspace
from respin.trust import policyfile
from respin.trust.model import TIERS, Role, TrustedKey
from respin.trust.store import TrustStore
from respin.trust.storefiles import POLICY


def add_key(
    store_dir: Path,
    key_file: bytes,
    role: Role,
    *,
    where: str = "the key file",
    tier: str,
    scope: Sequence[str] = ("*",),
    allow_expired: bool = False,
    allow_weak: bool = False,
    comment: str = "",
) -> TrustedKey:
    """Add the one key of ``key_file``, called ``where``, to the store, which is made when it is missing.

    Raises UsageError when the store has the key in this role already, or is broken.
    """
    with Workspace() as workspace:
        keys = read_keys(key_file, workspace.path)
    if len(keys) != 1:
        raise UsageError(
            f"the file holds {len(keys)} keys",
            where=where,
            remedy="add them one by one: `gpg --export --armor FINGERPRINT` writes one of a keyring",
            finding="trust-store",
        )
    if tier not in TIERS:
        raise UsageError(f"{tier!r} is no tier", remedy=f"choose one of {', '.join(TIERS)}", finding="trust-store")
    entry = policyfile.PolicyEntry(keys[0].fingerprint, role, tier, tuple(scope), allow_expired, allow_weak, comment)
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
        policy = store_dir / POLICY
        found = TrustStore.load(store_dir).policy if any(store_dir.iterdir()) else policyfile.Policy(())
        if (entry.fingerprint, role) in [(other.fingerprint, other.role) for other in found.entries]:
            raise UsageError(
                f"the store has {entry.fingerprint} in the role {role} already",
                where=str(policy),
                remedy="what it may sign there stands in this file, which may be edited",
                finding="trust-store",
            )
        text = policyfile.render(replace(found, entries=(*found.entries, entry)))
        policyfile.parse(text, where=str(policy))
        (store_dir / str(role)).mkdir(exist_ok=True)
        target = store_dir / entry.file_name
        _write(target, keys[0].armored)
        try:
            _write(policy, text.encode("utf-8"))
        except BaseException:
            target.unlink()  # a key file without an entry would make the whole store unreadable
            raise
    except OSError as error:
        raise BuildError(
            f"cannot write the trust store: {error.strerror}",
            where=str(error.filename or store_dir),
            remedy="check who owns it, and whether its file system is writable",
            finding="cannot-write",
        ) from error
    added = TrustStore.load(store_dir)
    return next(key for key in added.keys if (key.public.fingerprint, key.role) == (entry.fingerprint, role))


def _write(file: Path, data: bytes) -> None:
    """Replace a file as a whole, so that whoever reads the store meanwhile sees the old or the new one."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
