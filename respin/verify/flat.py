"""The stock check inside a flat root image: the new squashfs holds the vendor's whole, and what extends it is read.

Not looked at: bytes of the new data region and of the tables' ends that no inode names, and the export table, which
serves only to find an inode by its number over NFS.
"""

from __future__ import annotations

from typing import Tuple

from respin.formats.squashfs.decodable import of_extension, require_decodable
from respin.formats.squashfs.extension import first_other_byte, read_extension
from respin.formats.squashfs.mountable import require_mountable
from respin.formats.squashfs.splice import refuse_data_behind
from respin.node.rootimage import FlatRoot
from respin.node.treepairs import delta_of, pairs_of_extension
from respin.progress import Progress
from respin.root.delta import Delta
from respin.verify.differs import altered


def compare_flat(output: FlatRoot, base: FlatRoot, progress: Progress) -> Tuple[int, Delta]:
    """Bytes of data that both root images have, and all that differs; VerificationError if the vendor's are missing."""
    refuse_data_behind(output.squashfs)
    require_mountable(output.squashfs)
    extension = read_extension(base.squashfs, output.squashfs)
    if extension is None:
        raise altered(output.squashfs.view, 0, "the tables of the squashfs do not begin with the vendor's")
    with progress.step("comparing the root image's data"):
        place = first_other_byte(base.squashfs, output.squashfs, extension)
    if place is not None:
        raise altered(output.squashfs.view, place, "the root image's data is not the vendor's")
    with progress.step("comparing the two root trees"):
        require_decodable(output.squashfs, of_extension(base.tree, output.tree, extension))
        delta = delta_of(base.tree, output.tree, pairs_of_extension(base.tree, output.tree, extension))
    return extension.data_end - extension.data_start, delta
