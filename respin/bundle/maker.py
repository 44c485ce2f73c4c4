"""Makes a bundle from a specification: derives what the RPM headers know, checks the rest, packs canonically."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from respin.bundle import effects, lint, packing, schema
from respin.bundle.examination import member_name
from respin.bundle.manifest import SCHEMA, Effects, Manifest, RpmMember
from respin.bundle.members import Bundle, Member, Store
from respin.bundle.reading import bundle_of
from respin.bundle.spec import Spec, read_spec
from respin.byteview import FileView, chunks
from respin.errors import PolicyError, UsageError
from respin.formats.rpmfile import RpmFile, RpmHeader
from respin.progress import SILENT, Progress


@dataclass(frozen=True)
class Draft:
    """A bundle that is ready to be written: its manifest and its members. Close the bundle when done."""

    manifest: Manifest
    bundle: Bundle

    def write(self, fd: int) -> None:
        """Write the canonical packing to ``fd``, from its position on."""
        for piece in packing.pieces(self.bundle.members):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(fd, rest) :]


def create(spec_path: Path, tmpdir: Optional[Path] = None, progress: Progress = SILENT) -> Draft:
    """The unsigned bundle that a specification describes; equal inputs give equal bytes.

    Raises UsageError for what is wrong with the specification, PolicyError when the packages do what it doesn't
    declare or a bundle may not contain, UnsupportedError for packages of another architecture.
    """
    spec = read_spec(spec_path)
    store = Store(tmpdir)
    try:
        members = [_copy(name, path, store, progress) for name, path in spec.files]
        headers: Dict[str, RpmHeader] = {}
        for path in spec.rpms:
            member, header = _copy_rpm(path, store, progress)
            if member.name in headers:
                raise UsageError(f"{member.name} is there twice", where=str(path), finding="bad-specification")
            headers[member.name] = header
            members.append(member)
        members.sort(key=lambda member: packing.order(member.name))
        manifest = schema.from_json(_manifest(spec, members, headers), where=str(spec_path), error=UsageError)
        ordered = [headers[rpm.path] for rpm in manifest.rpms]
        lint.check(manifest, ordered, where=str(spec_path))
        effects.check(manifest.effects, effects.derive(ordered), where=str(spec_path))
        text = manifest.encode()
        members.append(store.add(packing.MANIFEST, [text], size=len(text), where=str(spec_path)))
        return Draft(manifest, bundle_of(spec_path.parent / manifest.file_name, members, store))
    except BaseException:
        store.close()
        raise


def _copy_rpm(path: Path, store: Store, progress: Progress) -> Tuple[Member, RpmHeader]:
    member = _copy(f"{packing.RPMS}*.rpm", path, store, progress)
    header = RpmFile.parse(member.view).header  # of the copy: that is what the bundle will hold
    name = packing.check_name(member_name(header), where=str(path))
    return replace(member, name=name), header


def _copy(name: str, path: Path, store: Store, progress: Progress) -> Member:
    fd = _open(path)
    try:
        view = FileView(fd, str(path))
        packing.check_size(name, view.size, where=str(path))
        with progress.step(f"reading {path.name}", view.size):
            return store.add(name, chunks(view), size=view.size, where=str(path))
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(f"cannot open it: {error.strerror}", path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _unusable("this is not a regular file", path)
    return fd


def _unusable(what: str, path: Path) -> UsageError:
    return UsageError(
        what, where=str(path), remedy="the specification names it; correct its path there", finding="bad-specification"
    )


def _manifest(spec: Spec, members: Sequence[Member], headers: Mapping[str, RpmHeader]) -> Mapping[str, Any]:
    rpms = [member for member in members if member.name in headers]
    return {
        **spec.identity,
        "schema": SCHEMA,
        "target": spec.target,
        "effects": _effects(spec, [headers[member.name] for member in rpms]),
        "files": [{"path": member.name, "size": member.size, "sha256": member.sha256} for member in members],
        "rpms": [RpmMember(m.name, headers[m.name].nevra, m.sha256, headers[m.name].sha256).to_json() for m in rpms],
    }


def _effects(spec: Spec, headers: Sequence[RpmHeader]) -> Mapping[str, Any]:
    """What the specification says, and for what it leaves out what the headers say."""
    derived = effects.derive(headers)
    document: Dict[str, Any] = Effects(
        setuid=tuple(sorted(derived.setuid)),
        capabilities=tuple(sorted(derived.capabilities)),
        scriptlets=tuple(sorted(derived.scriptlets)),
        units=tuple(sorted(derived.units)),
        users=tuple(sorted(derived.users)),
        groups=tuple(sorted(derived.groups)),
        kernel_modules=tuple(sorted(derived.kernel_modules)),
    ).to_json()
    document.update(spec.effects)
    declared: List[str] = document["paths"]
    more = effects.uncovered(derived.paths, declared)
    for path in more:
        if not effects.is_plain(path):
            raise PolicyError(
                f"the path {path!r} looks like a pattern",
                where=str(spec.path),
                remedy="declare a pattern in effects.paths that covers it, such as its directory followed by /**",
                finding="undeclared-effect",
            )
    document["paths"] = sorted({*declared, *more})
    return document
