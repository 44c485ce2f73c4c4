"""A plan as a debugfs(8) script, and debugfs run so that its failures are noticed: it exits 0 whatever happens.

Directories are entered first and files named by their last part, because debugfs's ``write`` and ``mkdir`` take no
path. Every inode field is set, so nothing depends on debugfs's defaults.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Callable, Iterator, List, Mapping, Sequence

from respin import process
from respin.errors import BuildError, UnsupportedError
from respin.root import e2fsprogs
from respin.root.delta import Attributes, Kind
from respin.root.entries import Plan, Target
from respin.safepath import show

_TYPES: Mapping[Kind, int] = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
}
# debugfs reads its script through a buffer of BUFSIZ bytes; a longer line would become two commands.
_LINE_LIMIT = 8000


def commands(plan: Plan, value_file: Callable[[bytes], str], *, large_inodes: bool) -> Iterator[str]:
    """The lines of the script. ``value_file`` stores an extended attribute's value and returns the file's path.

    ``large_inodes``: the inodes have room for creation times and epoch bits (more than 128 bytes).
    """
    for removal in plan.removals:
        yield f"{'rmdir' if removal.kind is Kind.DIRECTORY else 'rm'} {quote(removal.path)}"
    place = "/"
    for target in plan.targets:
        if not target.make:
            continue
        parent = posixpath.dirname(target.path)
        if parent != place:
            yield f"cd {quote(parent)}"
            place = parent
        name, kind = quote(posixpath.basename(target.path)), target.attributes.kind
        if kind is Kind.FILE:
            yield f"write {quote(target.source or '')} {name}"
        elif kind is Kind.DIRECTORY:
            yield f"mkdir {name}"
        elif kind is Kind.SYMLINK:
            yield f"symlink {name} {quote(target.attributes.target or '')}"
        else:
            yield f"mknod {name} p"
    for target in plan.targets:
        for link in target.links:
            parent = posixpath.dirname(link)
            if parent != place:
                yield f"cd {quote(parent)}"
                place = parent
            yield f"ln {quote(target.path)} {quote(posixpath.basename(link))}"
    for target in plan.targets:
        yield from _attributes(target, value_file, large_inodes)


def _attributes(target: Target, value_file: Callable[[bytes], str], large_inodes: bool) -> Iterator[str]:
    path, new = quote(target.path), target.attributes
    old = target.old.xattrs if target.old is not None else {}
    for name in sorted(set(old) - set(new.xattrs)):
        yield f"ea_rm {path} {quote(name)}"
    for name, value in sorted(new.xattrs.items()):
        if old.get(name) != value:
            yield f"ea_set -f {quote(value_file(value))} {path} {quote(name)}"
    for field, text in _fields(new, target, large_inodes):
        yield f"sif {path} {field} {text}"


def _fields(new: Attributes, target: Target, large_inodes: bool) -> "List[tuple[str, str]]":
    fields = [("mode", f"0{_TYPES[new.kind] | new.mode:o}"), ("uid", str(new.uid)), ("gid", str(new.gid))]
    if target.links:
        fields.append(("links_count", str(1 + len(target.links))))
    if not target.make and new.kind is Kind.DIRECTORY:
        return fields  # a directory of the vendor's keeps its times
    low = new.mtime & 0xFFFFFFFF
    signed = low - (1 << 32) if low >= 1 << 31 else low
    epoch_bits = ((new.mtime - signed) >> 32) & 3
    times = ["atime", "ctime", "mtime", *(["crtime"] if large_inodes and target.make else [])]
    for name in times:
        fields.append((name, f"@{new.mtime}"))
        if large_inodes:
            fields.append((f"{name}_extra", str(epoch_bits)))
    return fields


def quote(text: str) -> str:
    """``text`` as one argument; UnsupportedError if debugfs cannot be told it."""
    data = os.fsencode(text)
    if not data or b'"' in data or any(byte < 0x20 or byte == 0x7F for byte in data):
        raise UnsupportedError(
            f"the name or link target {show(text)!r} cannot be written by debugfs",
            remedy="names with quotes or control characters are not supported in a plugin",
            finding="unwritable-name",
        )
    return f'"{text}"'


def run(image: str, lines: List[str], script_path: str, epoch: int, fds: Sequence[int] = ()) -> None:
    """Have debugfs execute ``lines`` on ``image``; BuildError if it says anything but the expected.

    ``fds`` are descriptors that it needs to find the image.
    """
    for line in lines:
        if len(os.fsencode(line)) > _LINE_LIMIT:
            raise UnsupportedError(f"a path is too long for debugfs: {show(line[:120])}...", finding="unwritable-name")
    with open(script_path, "wb") as stream:
        stream.write(b"".join(os.fsencode(line) + b"\n" for line in lines))
    done = process.run(
        ["debugfs", "-w", "-f", script_path, image],
        check=False,
        env={**e2fsprogs.ENVIRONMENT, "E2FSPROGS_FAKE_TIME": str(epoch)},
        timeout=1800,
        pass_fds=fds,
    )
    e2fsprogs.refuse_unsupported(done.stderr.decode("utf-8", "replace"), "the root image")
    errors = done.stderr.decode("utf-8", "surrogateescape").splitlines()
    if done.returncode != 0 or not errors or not errors[0].startswith("debugfs 1.") or len(errors) > 1:
        raise _failed(errors[1:] or [done.explain()])
    echoes = iter(lines)
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        if line.startswith("debugfs: "):
            if line[len("debugfs: ") :] != next(echoes, None):
                raise _failed([line])
        elif line and not line.startswith("Allocated inode: "):
            raise _failed([line])
    left = next(echoes, None)
    if left is not None:
        raise _failed([f"it stopped before {left}"])


def _failed(said: List[str]) -> BuildError:
    return BuildError(f"debugfs could not write the change: {show(' | '.join(said[:3]))}", finding="cannot-write-root")
