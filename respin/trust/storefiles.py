"""The files of a trust store's directory: reading them, and refusing those that have no business there."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, Sequence

from respin.byteview import open_stream
from respin.errors import UnsupportedError, UsageError, VerificationError
from respin.formats.openpgp import Keyring, PublicKey, fingerprints
from respin.limits import LIMITS
from respin.trust import policyfile
from respin.trust.model import Role

POLICY = "policy.toml"
PROFILES = "profiles"


def read_profiles(path: Path) -> Dict[str, str]:
    """The texts of the store's profiles by path inside it."""
    folder = path / PROFILES
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found: Dict[str, str] = {}
    for file in files:
        if file.suffix != ".toml":
            if not file.name.startswith("."):
                raise bad_store("only profiles, *.toml, belong here", file)
            continue
        try:
            found[f"{PROFILES}/{file.name}"] = read_file(file, LIMITS.manifest).decode("utf-8")
        except UnicodeDecodeError as error:
            raise bad_store(f"byte {error.start} is not UTF-8", file) from None
    return found


def refuse_strays(path: Path, entries: Sequence[policyfile.PolicyEntry]) -> None:
    """A key file that no entry names is a mistake: somebody believes that it is trusted, or that it is not."""
    named: Dict[str, bool] = {entry.file_name: True for entry in entries}
    for role in Role:
        folder = path / str(role)
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not file.name.startswith(".") and f"{role}/{file.name}" not in named:
                raise bad_store(f"no entry of {POLICY} names this file with role {role}", file)
    for file in sorted(path.iterdir()):
        if file.suffix in (".asc", ".gpg", ".pgp", ".key") or file.name.startswith("RPM-GPG-KEY"):
            raise bad_store("key files belong into the folder of their role", file)


def read_file(file: Path, limit: int) -> bytes:
    """A file of the store whole; UsageError when it cannot be read or has more than ``limit`` bytes."""
    try:
        with open_stream(file) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise bad_store(f"cannot read it: {error.strerror}", file) from error
    if len(data) > limit:
        raise bad_store(f"the file is larger than {limit} bytes", file)
    return data


def bad_store(what: str, file: Path) -> UsageError:
    """The error for a store that is not as docs/reference/trust.md says."""
    return UsageError(what, where=str(file), remedy="see docs/reference/trust.md", finding="trust-store")


def expect_key(data: bytes, file: Path, fingerprint: str) -> None:
    """UsageError unless ``data``, the content of ``file``, is the one key with this fingerprint."""
    try:
        found = fingerprints(data, where=str(file))
    except (VerificationError, UnsupportedError) as error:
        raise bad_store(error.what, file) from error
    if found != (fingerprint,):
        raise bad_store(f"the file holds {', '.join(found)}; its name promises {fingerprint} and nothing else", file)


def understand(files: Iterable[bytes], scratch: Path) -> Dict[str, PublicKey]:
    """All keys at once: one run of GnuPG instead of one for each key."""
    with Keyring(files, scratch, strict=False) as keyring:
        return {key.fingerprint: key for key in keyring.keys}
