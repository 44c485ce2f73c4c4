"""An ISO 9660 image opened for reading: descriptors, trees, boot catalogue, system area, files by path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from respin.byteview import ByteView, SubView
from respin.errors import MalformedError, UnsupportedError, UsageError
from respin.formats.iso9660.descriptors import APPLICATION_USE, Descriptor, Volume, read_descriptors
from respin.formats.iso9660.eltorito import BootCatalog, BootEntry, read_catalog
from respin.formats.iso9660.fields import BLOCK, SYSTEM_AREA
from respin.formats.iso9660.names import IsoFile, Listing, list_tree
from respin.formats.iso9660.systemarea import SystemArea, read_system_area
from respin.formats.iso9660.tree import Tree
from respin.formats.iso9660.volumes import best_tree, read_volumes, trees_of
from respin.limits import LIMITS
from respin.safepath import show

_UDF_SEARCH = 64


@dataclass(frozen=True)
class IsoImage:
    """What was read. Paths are absolute, by Rock Ridge where the image has it, else by Joliet, else by identifier.

    An image may have further sets of descriptors, with trees of their own, for who mounts one of its partitions.
    """

    view: ByteView
    descriptors: Tuple[Descriptor, ...]
    """Of all sets, the first set first."""
    bases: Tuple[int, ...]
    """The blocks at which the volumes begin that the sets describe; 0 is the first."""
    primary: Volume
    trees: Tuple[Tree, ...]
    listing: Listing
    catalog: Optional[BootCatalog]
    system_area: SystemArea
    udf: bool

    @classmethod
    def open(cls, view: ByteView) -> "IsoImage":
        """Read everything but the files' content.

        Raises UnsupportedError for what is no ISO 9660 image, MalformedError for a damaged one.
        """
        descriptors = read_descriptors(view)
        catalog = read_catalog(view, descriptors)
        area = read_system_area(view, [entry.lba for entry in catalog.entries] if catalog else [])
        everything, volumes = read_volumes(view, descriptors, area)
        trees = trees_of(view, volumes)
        listing = list_tree(best_tree([tree for tree in trees if not tree.base]), view.name)
        if catalog is not None:
            catalog = _with_paths(catalog, listing)
        return cls(
            view=view,
            descriptors=everything,
            bases=tuple(sorted({volume.base for volume in volumes})),
            primary=volumes[0],
            trees=trees,
            listing=listing,
            catalog=catalog,
            system_area=area,
            udf=any(
                _is_descriptor(view, lba, bytes((0,)) + name)
                for lba in range(SYSTEM_AREA, SYSTEM_AREA + _UDF_SEARCH)
                for name in (b"NSR02", b"NSR03")
            ),
        )

    @property
    def second_set(self) -> bool:
        """Whether there is more than one set of descriptors."""
        return len(self.bases) > 1

    @property
    def name(self) -> str:
        """What to call the image in a message."""
        return self.view.name

    @property
    def volume_id(self) -> str:
        return self.primary.volume_id

    @property
    def volume_space_size(self) -> int:
        """The size of the volume in blocks, as the primary descriptor says."""
        return self.primary.space_size

    @property
    def created(self) -> Optional[int]:
        """The primary descriptor's creation date in seconds since 1970."""
        return self.primary.created

    @property
    def application_use(self) -> bytes:
        """The 512 bytes for application use of the primary descriptor, where the media check stands."""
        return self.primary.application_use

    @property
    def application_use_offset(self) -> int:
        """The byte offset of :attr:`application_use` in the image."""
        return self.primary.descriptor.lba * BLOCK + APPLICATION_USE

    @property
    def files(self) -> Mapping[str, IsoFile]:
        """The regular files by path."""
        return self.listing.files

    @property
    def boot(self) -> Tuple[BootEntry, ...]:
        """The entries of the boot catalogue."""
        return self.catalog.entries if self.catalog is not None else ()

    def file(self, path: str) -> IsoFile:
        """The regular file ``path``; UsageError when there is none."""
        found = self.files.get(path)
        if found is None:
            raise UsageError(
                f"there is no file {show(path)} in the image",
                where=self.name,
                remedy="`respin inspect` shows what the image holds; names are case-sensitive",
                finding="no-such-file",
            )
        return found

    def file_view(self, path: str) -> SubView:
        """The content of the file ``path``.

        Raises UsageError when there is none, UnsupportedError when it isn't one run of plain bytes.
        """
        found = self.file(path)
        where = f"{self.name}:{show(path)}"
        if found.compressed:
            raise UnsupportedError("the file is compressed by zisofs", where=where, finding="zisofs")
        if any(record.interleaved or record.xattr_length for record in found.records):
            raise UnsupportedError("the file is interleaved or has an extended attribute record", where=where)
        if not found.contiguous:
            raise UnsupportedError("the file lies in several places", where=where, finding="multi-extent")
        return SubView(self.view, (found.lba or 0) * BLOCK, found.size, where)

    def read(self, path: str, limit: int = LIMITS.small_file) -> bytes:
        """The content of the file ``path``; MalformedError when it has more than ``limit`` bytes."""
        view = self.file_view(path)
        if view.size > limit:
            raise MalformedError(f"the file has {view.size} bytes; at most {limit} are read", where=view.name)
        return view.read(0, view.size)

    def describe(self) -> Dict[str, Any]:
        """A summary that JSON can hold."""
        area = self.system_area
        mbr, gpt = area.mbr, area.gpt
        return {
            "volume_id": show(self.volume_id),
            "volume_space_size": self.volume_space_size,
            "size": self.view.size,
            "created": self.created,
            "trees": [tree.label for tree in self.trees],
            "files": len(self.files),
            "directories": len(self.listing.directories),
            "symlinks": len(self.listing.symlinks),
            "boot": [
                {
                    "platform": entry.platform_name,
                    "bootable": entry.bootable,
                    "lba": entry.lba,
                    "load_size": entry.load_size,
                    "path": None if entry.path is None else show(entry.path),
                    "boot_info_table": entry.boot_info,
                }
                for entry in self.boot
            ],
            "system_area": {
                "boot_code": area.boot_code.value,
                "mbr": [
                    {"number": p.number, "type": p.kind, "start": p.start, "sectors": p.sectors}
                    for p in (mbr.partitions if mbr is not None else ())
                ],
                "gpt": [
                    {
                        "number": p.index + 1,
                        "type": p.type_guid,
                        "start": p.first,
                        "sectors": p.last - p.first + 1,
                        "name": show(p.name),
                    }
                    for p in (gpt.primary.partitions() if gpt is not None else ())
                ],
                "gpt_valid": None if gpt is None else gpt.primary.valid and gpt.backup is not None and gpt.backup.valid,
                "apm": [show(partition.kind) for partition in area.apm],
            },
            "second_descriptor_set": self.second_set,
            "udf": self.udf,
        }


def _with_paths(catalog: BootCatalog, listing: Listing) -> BootCatalog:
    paths: Dict[int, str] = {}
    for path in sorted(listing.files):
        lba = listing.files[path].lba
        if lba is not None:
            paths.setdefault(lba, path)
    return catalog._replace(entries=tuple(entry._replace(path=paths.get(entry.lba)) for entry in catalog.entries))


def _is_descriptor(view: ByteView, lba: int, start: bytes) -> bool:
    return (lba + 1) * BLOCK <= view.size and view.read(lba * BLOCK, len(start)) == start
