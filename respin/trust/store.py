"""The trust store in a directory: ``policy.toml`` and ``ROLE/FINGERPRINT.asc``, nothing else that could be a key.

Every verification uses a keyring with the keys of one role only, so a key of another role is as good as unknown.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

from respin.clock import show_time
from respin.errors import PolicyError, UsageError, VerificationError
from respin.formats.openpgp import Keyring, Signature, Verdict
from respin.formats.rpmfile import RpmHeader
from respin.limits import LIMITS
from respin.safepath import show
from respin.scratch import Workspace
from respin.trust import policyfile
from respin.trust.minimum import by_name
from respin.trust.model import Role, TrustedKey, TrustedSignature, trusted
from respin.trust.rpmsig import RpmVerdict, verify_sealed
from respin.trust.sealed import Source, seal
from respin.trust.storefiles import POLICY, bad_store, expect_key, read_file, read_profiles, refuse_strays, understand
from respin.trust.verdicts import EXPLANATIONS


@dataclass(frozen=True)
class VerifiedRpm:
    """An RPM that a trusted key signed, in a sealed copy: ``fd`` holds exactly the verified bytes, ``size`` of them.

    ``sha256`` is over the whole file, ``signature_header`` the raw signature header. Call :meth:`close` when done.
    """

    header: RpmHeader
    fd: int
    size: int
    sha256: str
    signer: TrustedSignature
    file_name: str
    signature_header: bytes

    def close(self) -> None:
        """Give the memory back; ``fd`` is invalid afterwards."""
        os.close(self.fd)


class TrustStore:
    """Trusted keys by role; ``digest`` is a SHA-256 over the policy entries and key files, whatever their order.

    ``profiles`` are the texts of the store's own profiles of Nodes by file name, unparsed; they count in the digest.
    """

    def __init__(
        self,
        path: Path,
        policy: policyfile.Policy,
        keys: Sequence[TrustedKey],
        digest: str,
        at: Optional[int] = None,
        profiles: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.path = path
        self.policy = policy
        self.keys = tuple(keys)
        self.digest = digest
        self.at = at
        self.profiles = dict(profiles or {})
        self._keyrings: Dict[Tuple[Role, Path], Keyring] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, path: Path, tmpdir: Optional[Path] = None, *, scratch: Optional[Path] = None, at: Optional[int] = None
    ) -> "TrustStore":
        """Read a store; UsageError for anything in it that is not as docs/reference/trust.md says.

        GnuPG reads the keys in the caller's private directory ``scratch``, or in a new one below ``tmpdir``. ``at`` is
        the time by which expiry is judged, in seconds since 1970; None is now.
        """
        file = path / POLICY
        if not file.exists():
            raise UsageError(
                "this is no trust store: there is no such file",
                where=str(file),
                remedy="name yours with --trust DIR, or make one of the public keys that you believe:"
                " `respin keys add KEY.asc --trust DIR --role ROLE`; see docs/reference/trust.md",
                finding="trust-store",
            )
        policy = policyfile.parse(read_file(file, LIMITS.manifest).decode("utf-8", "replace"), where=str(file))
        entries = policy.entries
        refuse_strays(path, entries)
        files = {entry: read_file(path / entry.file_name, LIMITS.key_file) for entry in entries}
        for entry, data in files.items():
            expect_key(data, path / entry.file_name, entry.fingerprint)
        with ExitStack() as stack:
            place = scratch or stack.enter_context(Workspace(tmpdir)).path
            public = understand(files.values(), place)
        keys: List[TrustedKey] = []
        described = []
        for entry, data in files.items():
            file = path / entry.file_name
            if entry.fingerprint not in public:
                raise bad_store("GnuPG does not accept this key: it has no valid self-signature", file)
            known = public[entry.fingerprint]
            flags = entry.allow_expired, entry.allow_weak
            keys.append(TrustedKey(known, entry.role, entry.tier, entry.scope, *flags, file))
            content = hashlib.sha256(data).hexdigest()
            described.append([entry.fingerprint, str(entry.role), entry.tier, sorted(entry.scope), *flags, content])
        document: List[Any] = sorted(described)
        if policy.minimums or policy.expires is not None:
            lowest = sorted([one.kind, one.name, one.version, one.release] for one in policy.minimums)
            document = [document, lowest, policy.expires]
        profiles = read_profiles(path)
        if profiles:
            document = [document, sorted(profiles.items())]
        canonical = json.dumps(document, separators=(",", ":"), ensure_ascii=True)
        return cls(path, policy, keys, hashlib.sha256(canonical.encode("ascii")).hexdigest(), at, profiles)

    def of_role(self, role: Role) -> Tuple[TrustedKey, ...]:
        """The keys of a role."""
        return tuple(key for key in self.keys if key.role is role)

    def require_key(self, role: Role, fingerprint: str) -> None:
        """VerificationError if what the key with this fingerprint signs in this role would be refused.

        ``nokey``: it has not the role. ``expkey``, ``revkey``: it has ended, or was revoked.
        """
        key = next((key for key in self.of_role(role) if _made(key, fingerprint)), None)
        if key is None:
            raise VerificationError(
                f"the key {fingerprint} has not the role {role} in this trust store, so what it signs would be refused",
                where=str(self.path),
                remedy=f"sign with a key of role {role}, or add its key:"
                f" `respin keys add KEY.asc --trust {show(str(self.path))} --role {role}`",
                finding="nokey",
            )
        public, now = key.public, time.time() if self.at is None else self.at
        expired = public.expires is not None and public.expires <= now
        if not public.revoked and not expired:
            return
        verdict = Verdict.REVKEY if public.revoked else Verdict.EXPKEY
        ended = "was revoked" if public.revoked else f"expired on {show_time(public.expires or 0)[:10]}"
        raise VerificationError(
            f"the key {fingerprint} {ended}, so what it signs would be refused",
            where=str(key.file),
            remedy="sign with another key; if its owner renewed it, put the renewed one into the trust store",
            finding=verdict.value.lower(),
        )

    def keyring(self, role: Role, tmpdir: Path) -> Keyring:
        """A keyring of the keys of a role, made once for each directory; it goes away with the private ``tmpdir``.

        VerificationError (``trust-expired``) for a store past its end.
        """
        self._require_current()
        with self._lock:
            keyring = self._keyrings.get((role, tmpdir))
            if keyring is None or not keyring.is_there:
                keyring = Keyring([key.public.armored for key in self.of_role(role)], tmpdir, at=self.at)
                self._keyrings[role, tmpdir] = keyring
            return keyring

    def require_recent(self, kind: str, name: str, version: str, release: str, *, where: str) -> None:
        """PolicyError (``too-old``) for a Node or a plugin that is older than the store's minimum for it."""
        lowest = by_name(self.policy.minimums).get((kind, name))
        if lowest is not None and not lowest.accepts(version, release):
            raise PolicyError(
                f"{show(name)} {show(version)}-{show(release)} is older than {lowest}, the oldest {kind} of that name"
                " that the trust store accepts",
                where=where,
                remedy=f"get a newer one; the minimum stands in {self.path / POLICY}",
                finding="too-old",
            )

    def _require_current(self) -> None:
        expires = self.policy.expires
        if expires is not None and (time.time() if self.at is None else self.at) >= expires:
            raise VerificationError(
                f"the trust store expired on {time.strftime('%Y-%m-%d', time.gmtime(expires))}: what it says of keys"
                " and versions may be outdated",
                where=str(self.path / POLICY),
                remedy="get the store's current version from whoever keeps it; `respin verify --at TIME` judges by a"
                " time before",
                finding="trust-expired",
            )

    def verify_detached(
        self,
        role: Role,
        subject: str,
        signature: bytes,
        data: Union[bytes, Iterable[bytes]],
        *,
        where: str,
        tmpdir: Path,
    ) -> TrustedSignature:
        """Judge a detached signature over ``data`` (bytes, or pieces of them) about ``subject``.

        Raises VerificationError, whose finding is the verdict word in lower case, and PolicyError (``out-of-scope``)
        for a trusted key that may not sign ``subject``.
        """
        pieces = [data] if isinstance(data, bytes) else data
        judged = self.keyring(role, tmpdir).verify_detached_view(signature, pieces)
        return self.judge(role, subject, judged, where=where)

    def verify_clearsigned(
        self, role: Role, subject: str, text: bytes, *, where: str, tmpdir: Path
    ) -> Tuple[TrustedSignature, bytes]:
        """As :meth:`verify_detached` for a clearsigned text; also returns the signed text, and nothing but that."""
        judged, content = self.keyring(role, tmpdir).verify_clearsigned(text)
        return self.judge(role, subject, judged, where=where), content

    def verify_rpm(self, source: Source, *, where: str, tmpdir: Path) -> VerifiedRpm:
        """Verify an RPM by both verifiers, from a sealed copy of ``source`` (an open file, a path or a view).

        Raises as :meth:`verify_detached`; the subject is the package's name. Every signature of the package must count,
        and at least one key must cover header and payload by its own signatures. Close what is returned.
        """
        sealed = seal(source, where=where, limit=LIMITS.rpm)
        try:
            judged = verify_sealed([sealed], [where], self.keyring(Role.RPM, tmpdir))[0]
            signer = self._rpm_signer(judged, where)
        except BaseException:
            sealed.close()
            raise
        assert judged.rpm is not None  # a broken file has been refused
        return VerifiedRpm(
            header=judged.rpm.header,
            fd=sealed.fd,
            size=sealed.size,
            sha256=sealed.sha256,
            signer=signer,
            file_name=source.name if isinstance(source, Path) else posixpath.basename(where),
            signature_header=judged.rpm.signature.raw,
        )

    def _rpm_signer(self, judged: RpmVerdict, where: str) -> TrustedSignature:
        signatures = [item.signature for item in judged.signatures]
        keys = [self._key(Role.RPM, signature) for signature in signatures]
        counts = all(key is not None and key.accepts(signature) for key, signature in zip(keys, signatures))
        beyond_opt_in = set(judged.problems) - {Verdict.EXPKEY, Verdict.WEAK}
        if judged.rpm is None or not counts or beyond_opt_in or not judged.signers:
            worst = next((item for item in signatures if item.verdict is judged.verdict), None)
            self._refuse(Role.RPM, judged.verdict, judged.detail, worst.signing_key if worst else None, where)
        complete = [signature for signature in signatures if signature.primary in judged.signers]
        name = judged.rpm.header.name
        in_scope = [item for item in complete if self._covers(item, name)]
        return self.judge(Role.RPM, name, (in_scope or complete)[0], where=where)

    def _covers(self, signature: Signature, name: str) -> bool:
        key = self._key(Role.RPM, signature)
        return key is not None and key.covers(name)

    def judge(self, role: Role, subject: str, signature: Signature, *, where: str) -> TrustedSignature:
        """The trusted signature, if ``signature`` counts in this role for this subject; raises as above otherwise."""
        key = self._key(role, signature)
        if key is None or not key.accepts(signature):
            verdict = signature.verdict if signature.verdict is not Verdict.GOOD else Verdict.NOKEY
            self._refuse(role, verdict, signature.detail, signature.signing_key, where)
        if not key.covers(subject):
            raise PolicyError(
                f"the key {key.public.fingerprint} may not sign {show(subject)!r}; its scope is {', '.join(key.scope)}",
                where=where,
                remedy=f"have it signed by a key whose scope covers it, or widen the scope in {self.path / POLICY}",
                finding="out-of-scope",
            )
        return trusted(key, signature)

    def _key(self, role: Role, signature: Signature) -> Optional[TrustedKey]:
        return next((key for key in self.of_role(role) if key.public.fingerprint == signature.primary), None)

    def _refuse(self, role: Role, verdict: Verdict, detail: str, signing_key: Optional[str], where: str) -> NoReturn:
        meaning, remedy = EXPLANATIONS[verdict]
        if verdict is Verdict.NOKEY:
            others = [str(key.role) for key in self.keys if key.role is not role and _made(key, signing_key)]
            if others:
                detail = f"made by {signing_key}, which is trusted for {' and '.join(others)}, not for {role}"
                remedy = f"have it signed by a key of role {role}"
            elif not self.of_role(role):
                detail += f"; the trust store {self.path} has no key of role {role}"
        raise VerificationError(
            f"{verdict}: {meaning} ({show(detail)})", where=where, remedy=remedy, finding=verdict.value.lower()
        )


def _made(key: TrustedKey, signing_key: Optional[str]) -> bool:
    """Whether a fingerprint or key id belongs to ``key``; only ever used to word a message."""
    known = (key.public.fingerprint, *key.public.subkeys)
    return bool(signing_key) and any(fingerprint.endswith(str(signing_key)) for fingerprint in known)
