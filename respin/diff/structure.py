"""What an ISO is beside its files: size, descriptors, El Torito, partitions, media check, the root's file systems."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from respin.diff.model import Difference, Section
from respin.digest import sha256_hex
from respin.formats import mediacheck
from respin.formats.iso9660.descriptors import Kind
from respin.formats.iso9660.fields import BLOCK, SECTOR
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.mbr import BOOT_SECTOR
from respin.node.image import Identity, ReadableNode
from respin.node.rootimage import ErofsRoot, NestedRoot

# Texts and dates of a volume descriptor (ECMA-119, 8.4) as (start, end).
_TEXTS: Mapping[str, Tuple[int, int]] = {
    "system_id": (8, 40),
    "volume_id": (40, 72),
    "volume_set_id": (190, 318),
    "publisher": (318, 446),
    "preparer": (446, 574),
    "application_id": (574, 702),
    "copyright_file": (702, 739),
    "abstract_file": (739, 776),
    "bibliographic_file": (776, 813),
}
_DATES: Mapping[str, Tuple[int, int]] = {
    "created": (813, 829),
    "modified": (830, 846),
    "expires": (847, 863),
    "effective": (864, 880),
}


def compare_structure(old: Mapping[str, Any], new: Mapping[str, Any]) -> Section:
    """One difference for each field of two descriptions that is not the same."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after:
            found.append(
                Difference(
                    name, None if name not in old else {"value": before}, None if name not in new else {"value": after}
                )
            )
    return Section("structure", tuple(found))


def describe(iso: IsoImage, identity: Identity, node: Optional[ReadableNode]) -> Mapping[str, Any]:
    """All fields by dotted names."""
    whole = iso.describe()
    for counted in ("files", "directories", "symlinks", "volume_id", "created"):
        del whole[counted]  # they show elsewhere
    for entry, raw in zip(whole["boot"], iso.boot):
        entry["emulation"] = raw.emulation
        start, size = raw.lba * BLOCK, raw.load_size * SECTOR
        if raw.path is None and start + size <= iso.view.size:
            entry["sha256"] = sha256_hex(iso.view.read(start, size))
    area, mbr, gpt = whole["system_area"], iso.system_area.mbr, iso.system_area.gpt
    if mbr is not None:
        area["boot_code_sha256"] = sha256_hex(iso.view.read(0, BOOT_SECTOR))
        area["disk_id"] = f"{mbr.disk_id:08x}"
        for entry, partition in zip(area["mbr"], mbr.partitions):
            entry["status"] = partition.status
    if gpt is not None:
        area["disk_guid"] = gpt.primary.disk_guid
    for number, descriptor in enumerate(iso.descriptors):
        texts = {
            **(_TEXTS if descriptor.kind in (Kind.PRIMARY, Kind.SUPPLEMENTARY) else {}),
            **(_DATES if descriptor.kind is Kind.PRIMARY else {}),
        }
        whole[f"descriptor.{number}"] = {
            "kind": descriptor.kind.name.lower(),
            # Joliet's 16-bit characters keep their zero bytes: they are shown only when they differ.
            **{name: descriptor.raw[start:end].decode("latin-1").rstrip("\0 ") for name, (start, end) in texts.items()},
        }
    check = mediacheck.read(iso.view)
    whole["media_check"] = None if check is None else check.md5
    whole["product"] = identity.product
    whole["layout"] = identity.layout
    if node is not None:
        whole["root"] = _root(node)
    return dict(_flat("", whole))


def _root(node: ReadableNode) -> Dict[str, Any]:
    image = node.image
    found: Dict[str, Any] = {
        "path": node.path,
        "inner_path": image.inner_path or None,
        "kernels": ", ".join(node.kernel_releases),
    }
    if isinstance(image, ErofsRoot):
        erofs = image.erofs.superblock
        found["erofs"] = {
            "compressor": image.erofs.compression,
            "block_size": erofs.block_size,
            "mtime": erofs.epoch,
            "inodes": erofs.inode_count,
        }
    else:
        squashfs = image.squashfs.superblock
        found["squashfs"] = {
            "compressor": image.squashfs.compressor.name.lower(),
            "block_size": squashfs.block_size,
            "mtime": squashfs.mtime,
            "inodes": squashfs.inode_count,
        }
    if isinstance(image, NestedRoot):
        superblock = image.tree.superblock
        found["ext"] = {
            "size": image.inner_size,
            "block_size": superblock.block_size,
            "inodes": superblock.inode_count,
            "features": ", ".join(sorted(superblock.features)),
            "label": superblock.label,
            "uuid": superblock.uuid,
            "created": superblock.created,
            "problems": ", ".join(superblock.problems),
        }
    return found


def _flat(prefix: str, value: Any) -> "Dict[str, Any]":
    if isinstance(value, dict):
        items = [(str(name), one) for name, one in value.items()]
    elif isinstance(value, list):
        items = [(str(number), one) for number, one in enumerate(value, 1)]
    else:
        return {prefix: value}
    found: Dict[str, Any] = {}
    for name, one in items:
        found.update(_flat(f"{prefix}.{name}" if prefix else name, one))
    return found
