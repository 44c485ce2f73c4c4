"""A hostile author: has a key of role respin that the verifier trusts, and every tool.

``Forgery`` edits a finished ISO and makes everything consistent again that its author can: restore map, statement,
media check (by implantisomd5), signature. ``evil_build`` is a respin whose rules were switched off.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import subprocess
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import pytest

from respin.build import build as build_module
from respin.build import newroot as newroot_module
from respin.build import seal as seal_module
from respin.build.prepare import BuildRequest
from respin.byteview import ByteView, FileView
from respin.formats.ext.shown import Shown
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.merge import Change, MergedSquashfs, merge_changes
from respin.formats.squashfs.nested import PatchedView
from respin.node import rootdiff as rootdiff_module
from respin.provenance import statement as statement_module
from respin.root.delta import Delta
from respin.root.install import Installed, InstallJob
from tests.support import rawiso
from tests.support.forge import Forge
from tests.support.images import run
from tests.support.keys import KeyWorld

B = 2048
MEDIA = (16 * B + 883, 512)
SLOT_SIZE = 16384


class Forgery:
    """A copy of a respun ISO that can be changed and made consistent again."""

    def __init__(self, source: Path, target: Path, keys: KeyWorld) -> None:
        self.path = target
        self.keys = keys
        self.data = bytearray(source.read_bytes())

    def place(self, name: str) -> Tuple[int, int]:
        """Byte offset and size of one of respin's files, by the Rock Ridge tree."""
        record = next(r for r in rawiso.records(bytes(self.data), False) if r.path == name)
        return record.extent * B, record.size

    def read(self, name: str) -> bytes:
        """The content of a file."""
        offset, size = self.place(name)
        return bytes(self.data[offset : offset + size])

    def write(self, name: str, content: bytes) -> None:
        """Replace the content of a file by one that fits into it."""
        offset, size = self.place(name)
        assert len(content) <= size, f"{name} has room for {size} bytes, {len(content)} are wanted"
        self.data[offset : offset + size] = content.ljust(size, b"\0")

    def change(self, offset: int, new: bytes) -> None:
        """Put ``new`` at ``offset``, and mend the restore map so that the vendor's ISO still comes back."""
        old = bytes(self.data[offset : offset + len(new)])
        self.data[offset : offset + len(new)] = new
        document, originals = self.restore_map()
        copies, taken, position, cut = [], 0, 0, None
        for base, source, length in document["copies"]:
            taken += base - position
            position = base + length
            if source <= offset and offset + len(new) <= source + length:
                head = offset - source
                if head:
                    copies.append([base, source, head])
                rest = length - head - len(new)
                if rest:
                    copies.append([base + head + len(new), source + head + len(new), rest])
                cut = taken
            else:
                copies.append([base, source, length])
        if cut is not None:
            originals = originals[:cut] + old + originals[cut:]
            document["copies"] = copies
        self.set_restore_map(document, originals)

    def restore_map(self) -> Tuple[Dict[str, Any], bytes]:
        """The map with its copies as triples, and the originals."""
        line, _, rest = self.read("/respin.restore").partition(b"\n")
        document = json.loads(line)
        numbers = document["copies"]
        document["copies"] = [list(triple) for triple in zip(numbers[0::3], numbers[1::3], numbers[2::3])]
        return document, zlib.decompress(rest[: document["packed"]])

    def set_restore_map(self, document: Dict[str, Any], originals: bytes) -> None:
        """Write the map back; packed as small as it gets, so that there is room for more entries."""
        self.write("/respin.restore", self._packed(document, originals))

    def room(self) -> int:
        """Bytes that the restore map could be longer."""
        return self.place("/respin.restore")[1] - len(self._packed(*self.restore_map()))

    def _packed(self, document: Dict[str, Any], originals: bytes) -> bytes:
        packed = zlib.compress(originals, 9)
        numbers = [number for triple in document["copies"] for number in triple]
        document = {**document, "copies": numbers, "originals": len(originals), "packed": len(packed)}
        line = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        return line + packed

    def finish(self, key: str = "respin", size: Optional[int] = None) -> Path:
        """Make digest, media check and signature right again and write the file.

        ``size`` is what the statement says of the ISO's size, if that is not the file's.
        """
        statement = json.loads(self.read("/respin.json"))
        notes = statement["subject"][0]["annotations"]
        notes["respin_size"] = f"{len(self.data) if size is None else size:016}"
        notes["respin_partition_area"] = base64.b64encode(self.data[440 : 512 + 92]).decode()
        covered = bytearray(self.data if size is None else self.data[:size])
        for name in ("/respin.json", "/respin.sig"):
            offset, length = self.place(name)
            covered[offset : offset + length] = bytes(length)
        covered[MEDIA[0] : sum(MEDIA)] = b" " * MEDIA[1]
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(covered).hexdigest()
        raw = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        self.write("/respin.json", raw)
        self.sign(key)
        self.path.write_bytes(self.data)
        subprocess.run(["implantisomd5", "--force", self.path], check=True, capture_output=True)
        self.data = bytearray(self.path.read_bytes())
        return self.path

    def sign(self, key: str) -> None:
        """Fill the slot with a signature by a key of the key world."""
        raw = self.read("/respin.json")
        pae = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(raw), raw)
        signature = {
            "keyid": self.keys.fingerprints[key],
            "sig": base64.b64encode(self.keys.detach_sign(key, pae)).decode(),
        }
        slot = {"payloadType": "application/vnd.in-toto+json", "signatures": [signature]}
        self.write("/respin.sig", json.dumps(slot, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def evil_build(
    forge: Forge,
    plugin: Path,
    output: Path,
    commands: List[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    prepare: Callable[[Path], None] = lambda image: None,
) -> Path:
    """A signed respin in which the author changed the root by debugfs ``commands`` behind the plugin's back."""
    real_install = build_module.install

    def install(job: InstallJob, judge: Callable[[Delta], None], **keywords: Any) -> Any:
        if plugin not in _INSTALLED:
            _INSTALLED[plugin] = _InstalledImage.of(job, real_install(job, judge, **keywords).installed, plugin)
        honest = _INSTALLED[plugin]
        image = output.with_suffix(".image")
        run("cp", "--sparse=always", honest.image, image)
        prepare(image)
        script = "\n".join(commands) + "\n"
        command = ["debugfs", "-w", "-f", "-", image]
        environment = {**os.environ, "E2FSPROGS_FAKE_TIME": str(job.epoch)}
        done = subprocess.run(command, input=script, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        installed = dataclasses.replace(honest.installed, changed_blocks=honest.with_changes_of(job, image))
        image.unlink()
        return SimpleNamespace(installed=installed, check=lambda _: 0)

    monkeypatch.setattr(build_module, "install", install)
    return _build_without_rules(forge, plugin, output, monkeypatch)


@dataclasses.dataclass(frozen=True)
class _InstalledImage:
    """What the honest installation of a plugin gave: authors who change it do not each have to wait for one."""

    installed: Installed
    blocks: Mapping[int, bytes]
    image: Path

    @classmethod
    def of(cls, job: InstallJob, installed: Installed, plugin: Path) -> "_InstalledImage":
        """The image lies beside the plugin, and goes when that does."""
        blocks = dict(installed.changed_blocks)
        patched, vendor = (PatchedView(_nested(job), changed, installed.image_size) for changed in (blocks, {}))
        image = plugin.with_suffix(".image")
        with image.open("wb") as file:
            file.truncate(patched.size)
            for index in range(patched.blocks_total):
                if index in blocks or vendor.block(index).strip(b"\0"):
                    file.seek(index * patched.block_size)
                    file.write(patched.block(index))
        return cls(installed, blocks, image)

    def with_changes_of(self, job: InstallJob, image: Path) -> "_Blocks":
        """The blocks that differ from the vendor's in ``image``, a changed copy."""
        vendor = PatchedView(_nested(job), {}, self.installed.image_size)
        changed = dict(self.blocks)
        with self.image.open("rb") as before, image.open("rb") as after:
            for index in range(vendor.blocks_total):
                data = after.read(vendor.block_size)
                if before.read(vendor.block_size) != data:
                    changed[index] = data
                    if data == vendor.block(index):
                        del changed[index]
        return _Blocks(changed)


_INSTALLED: Dict[Path, _InstalledImage] = {}


def _nested(job: InstallJob) -> ByteView:
    view = FileView(job.iso_fd, job.iso_name, job.squashfs_offset, job.squashfs_size)
    return SquashfsImage.open(view).open_file(job.image_path)


def evil_flat_build(
    forge: Forge, plugin: Path, output: Path, changes: Sequence[Change], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The same on a Node with a flat root, where ``changes`` were made besides the plugin's."""
    paths = {change.path for change in changes}

    def merge(image: SquashfsImage, own: Iterable[Change]) -> MergedSquashfs:
        return merge_changes(image, [*(change for change in own if change.path not in paths), *changes])

    monkeypatch.setattr(newroot_module, "merge_changes", merge)
    return _build_without_rules(forge, plugin, output, monkeypatch)


def evil_statement_build(
    forge: Forge,
    plugin: Path,
    output: Path,
    change: Callable[[Dict[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """An honest respin with a statement that was changed before anything was laid out by its size."""
    real = statement_module.compose

    def compose(*arguments: Any) -> bytes:
        document = json.loads(real(*arguments))
        change(document)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    monkeypatch.setattr(statement_module, "compose", compose)
    return evil_build(forge, plugin, output, [], monkeypatch)


def _build_without_rules(forge: Forge, plugin: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_module, "require_none", lambda findings: None)
    monkeypatch.setattr(build_module, "_judge", lambda *arguments: None)
    monkeypatch.setattr(seal_module._Sealing, "_verify", lambda *arguments: (None, b"{}"))
    monkeypatch.setattr(seal_module, "_lint", lambda *arguments: None)
    monkeypatch.setattr(Shown, "require", lambda *arguments, **keywords: None)
    monkeypatch.setattr(rootdiff_module, "require_consistent", lambda *arguments: None)
    build_module.build(
        BuildRequest(
            base=forge.iso,
            plugins=(plugin,),
            trust=forge.keys.trust,
            output=output,
            base_checksum=forge.checksum,
            sign_key=forge.keys.fingerprints["respin"],
            gnupg_home=forge.keys.gnupg_home,
        )
    )
    return output


class _Blocks(Dict[int, bytes]):
    """Changed blocks in memory, with the interface of those in a file."""

    @property
    def length(self) -> int:
        """Bytes of them all."""
        return sum(map(len, self.values()))

    def close(self) -> None:
        """Nothing to give up."""
