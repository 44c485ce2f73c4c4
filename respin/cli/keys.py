"""``respin keys``: test keys, the trust store, and what RPM signatures are worth."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import click
from rich.text import Text

from respin.byteview import FileView
from respin.cli.common import Group, Session, json_option, trust_option
from respin.clock import show_time
from respin.formats.openpgp import Keyring, Verdict, fingerprints
from respin.node.base import open_input
from respin.safepath import show
from respin.scratch import Workspace
from respin.trust import TIERS, Role, TrustedKey, TrustStore, add_key
from respin.trust.keyfiles import collect, read_key_file
from respin.trust.rpmsig import RpmVerdict, verify_rpm_files
from respin.trust.testkeys import generate_test_keys

_PATH = click.Path(path_type=Path)


@click.group("keys", cls=Group)
def keys() -> None:
    """Make test keys, keep a trust store, judge RPM signatures."""


@keys.command("generate")
@click.option("--test", "directory", type=_PATH, required=True, metavar="DIR", help="Where the TEST keys go.")
@json_option
@click.pass_obj
def generate(session: Session, directory: Path, json_output: bool) -> None:
    """Make throw-away TEST keys, one for each role, and a trust store of them.

    The private keys have no passphrase. Whoever can read them can sign anything: never trust them on a real machine.

    \b
    Example:
      respin keys generate --test try
      respin keys list --trust try/trust
    """
    with session.console.step("making four test keys"):
        made = generate_test_keys(directory)
    session.console.warn("these are TEST keys without a passphrase; never add them to a real trust store")
    lines = [f"{role!s:<7} {fingerprint}" for role, fingerprint in made.items()]
    lines += [f"private keys: {directory / 'gnupg'}", f"trust store:  {directory / 'trust'}"]
    document = {
        "schema": "respin.keys-generate/1",
        "gnupg_home": str(directory / "gnupg"),
        "trust": str(directory / "trust"),
        "fingerprints": {str(role): fingerprint for role, fingerprint in made.items()},
    }
    session.console.result(document, "\n".join(lines))


@keys.command("add")
@click.argument("file", type=_PATH)
@trust_option
@click.option("--role", type=click.Choice([str(role) for role in Role]), required=True, help="What it may sign.")
@click.option("--tier", type=click.Choice(TIERS), help="How far it is trusted (base: vendor; others: community).")
@click.option("--scope", multiple=True, metavar="GLOB", help="Names it may sign; may be repeated (default: all).")
@click.option("--allow-expired", is_flag=True, help="Accept signatures of this key after its end.")
@click.option("--allow-weak", is_flag=True, help="Accept SHA-1 and short keys from this key.")
@json_option
@click.pass_obj
def add(
    session: Session,
    file: Path,
    trust: Path,
    role: str,
    tier: str,
    scope: Tuple[str, ...],
    allow_expired: bool,
    allow_weak: bool,
    json_output: bool,
) -> None:
    """Add the public key in FILE to a trust store, which is made when it is missing.

    Compare the fingerprint that is printed with one you got another way before you rely on it.

    \b
    Example:
      respin keys add vendor.asc --trust trust --role base
      respin keys add ihv.asc --trust trust --role plugin --tier partner --scope 'exnic-*'
    """
    data = read_key_file(file)
    fingerprints(data, where=str(file))  # what is wrong with it is told with its name
    added = add_key(
        trust,
        data,
        Role(role),
        where=str(file),
        tier=tier or ("vendor" if role == Role.BASE.value else "community"),
        scope=scope or ("*",),
        allow_expired=allow_expired,
        allow_weak=allow_weak,
    )
    document = {"schema": "respin.keys-add/1", "trust": str(trust), "key": _plain(added)}
    session.console.result(document, f"added to {show(str(trust))}:\n{_describe(added)}")


@keys.command("list")
@trust_option
@json_option
@click.pass_obj
def list_command(session: Session, trust: Path, json_output: bool) -> None:
    """The keys of a trust store: role, tier, scope, fingerprint, owner; minimum versions, and when the store expires.

    \b
    Example:
      respin keys list --trust trust
    """
    store = TrustStore.load(trust, session.tmpdir)
    policy = store.policy
    ends = None if policy.expires is None else show_time(policy.expires)[:10]
    document = {
        "schema": "respin.keys/1",
        "trust": str(store.path),
        "digest": {"sha256": store.digest},
        "expires": ends,
        "minimum": [
            {"kind": one.kind, "name": one.name, "version": one.version, "release": one.release}
            for one in policy.minimums
        ],
        "keys": [_plain(key) for key in store.keys],
    }
    described = [_describe(key) for key in store.keys] or ["the trust store has no keys"]
    described += [f"minimum {one.kind} {one.name}: {one}" for one in policy.minimums]
    if policy.expires is not None:
        described.append(f"the trust store {'EXPIRED' if policy.expires <= time.time() else 'expires'} {ends}")
    session.console.result(document, "\n".join([*described, f"digest: sha256:{store.digest}"]))


@keys.command("verify")
@click.argument("files", type=_PATH, nargs=-1, required=True, metavar="FILE.rpm...")
@click.option("--keys", "key_paths", type=_PATH, multiple=True, required=True, metavar="PATH", help="Key files.")
@json_option
@click.pass_context
def verify(context: click.Context, files: Tuple[Path, ...], key_paths: Tuple[Path, ...], json_output: bool) -> None:
    """Judge the signatures and digests of RPMs by GnuPG and by rpm, with the keys in PATH only.

    PATH is a key file or a directory, which is searched recursively. Prints one verdict word for each file; the words
    are explained in docs/reference/trust.md. Exits with 3 unless all are GOOD.

    \b
    Example:
      respin keys verify kmod-exnic.rpm --keys /etc/pki/rpm-gpg
    """
    session: Session = context.obj
    found, notes = collect(key_paths)
    for note in notes:
        session.console.note(note, level=1)
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(session.tmpdir))
        keyring = stack.enter_context(Keyring(found, workspace.path, strict=False))
        views = []
        for file in files:
            fd = open_input(file)
            stack.callback(os.close, fd)
            views.append(FileView(fd, str(file)))
        with session.console.step(f"judging {len(files)} packages with {len(keyring.keys)} keys"):
            judged = list(verify_rpm_files(views, keyring))
    good = all(verdict.verdict is Verdict.GOOD for verdict in judged)
    document = {
        "schema": "respin.keys-verify/1",
        "ok": good,
        "files": [_plain_verdict(file, verdict) for file, verdict in zip(files, judged)],
    }
    session.console.markup(document, _styled(files, judged))
    context.exit(0 if good else 3)


def _describe(key: TrustedKey) -> str:
    public = key.public
    remarks = [f"scope {' '.join(key.scope)}"] if key.scope != ("*",) else []
    remarks += ["REVOKED"] if public.revoked else []
    if public.expires is not None:
        day = time.strftime("%Y-%m-%d", time.gmtime(public.expires))
        remarks.append(f"EXPIRED {day}" if public.expires <= time.time() else f"expires {day}")
    remarks += ["expired allowed"] if key.allow_expired else []
    remarks += ["weak allowed"] if key.allow_weak else []
    owner = show(public.user_ids[0]) if public.user_ids else "(no user id)"
    return f"{key.role!s:<7} {key.tier:<9} {public.fingerprint} {public.algorithm} {owner}" + "".join(
        f"; {remark}" for remark in remarks
    )


def _plain(key: TrustedKey) -> Dict[str, Any]:
    return {
        "fingerprint": key.public.fingerprint,
        "role": str(key.role),
        "tier": key.tier,
        "scope": list(key.scope),
        "allow_expired": key.allow_expired,
        "allow_weak": key.allow_weak,
        "user_ids": list(key.public.user_ids),
        "algorithm": key.public.algorithm,
        "created": key.public.created,
        "expires": key.public.expires,
        "revoked": key.public.revoked,
        "subkeys": list(key.public.subkeys),
    }


def _plain_verdict(file: Path, verdict: RpmVerdict) -> Dict[str, Any]:
    return {
        "file": str(file),
        "nevra": verdict.nevra,
        "verdict": verdict.verdict.value,
        "by_gpg": verdict.by_gpg.value,
        "by_rpm": verdict.by_rpm,
        "problems": [problem.value for problem in verdict.problems],
        "detail": verdict.detail,
        "signatures": [
            {
                "tag": item.tag,
                "covers_payload": item.covers_payload,
                "verdict": item.signature.verdict.value,
                "primary": item.signature.primary,
                "signing_key": item.signature.signing_key,
                "created": item.signature.created,
                "hash": item.signature.hash_name,
                "detail": item.signature.detail,
            }
            for item in verdict.signatures
        ],
    }


def _styled(files: Sequence[Path], judged: Sequence[RpmVerdict]) -> Text:
    lines: List[Text] = []
    for file, verdict in zip(files, judged):
        style = "bold green" if verdict.verdict is Verdict.GOOD else "bold red"
        words = f"  (GnuPG: {verdict.by_gpg}, rpm: {verdict.by_rpm})"
        name = f"  {verdict.nevra}" if verdict.nevra else ""
        lines.append(Text.assemble((str(verdict.verdict), style), f"  {show(str(file))}{name}{words}"))
        lines += [Text(f"    {show(part)}") for part in verdict.detail.split("; ") if part]
    return Text("\n").join(lines)
