"""All volumes that an image describes: by its first set of descriptors, by further sets, by copies of either.

xorriso's ``partition_offset`` writes a second set, with trees of its own, for who mounts the partition that begins
there; its block numbers count from the partition's start.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Sequence, Tuple

from respin.byteview import ByteView
from respin.errors import MalformedError, RespinError
from respin.formats.iso9660.descriptors import (
    Descriptor,
    Kind,
    Naming,
    Volume,
    has_descriptors,
    read_descriptors,
    read_volume,
)
from respin.formats.iso9660.fields import SECTORS, SYSTEM_AREA
from respin.formats.iso9660.partitions import partitions
from respin.formats.iso9660.systemarea import SystemArea
from respin.formats.iso9660.tree import Tree, read_tree

PARTITION_OFFSET = 16
"""The block at which xorriso lets the volume of a second set begin; partition tables name it, if there are any."""

_COPY_SEARCH = 512


def read_volumes(
    view: ByteView, first: Tuple[Descriptor, ...], area: SystemArea
) -> Tuple[Tuple[Descriptor, ...], List[Volume]]:
    """The descriptors of all sets, those of the ``first`` at the front, and the volumes, the primary one at the front.

    Raises MalformedError for a set without a primary descriptor.
    """
    descriptors = first
    volumes = _volumes(view, first, 0)
    for base in _further_bases(view, area, first[-1].lba):
        further = read_descriptors(view, base + SYSTEM_AREA)
        volumes += _volumes(view, further, base)
        descriptors += further
    for copy, copied in _copies(view, descriptors, tuple(volumes)):
        volumes += copied
        descriptors += copy
    return descriptors, volumes


def _volumes(view: ByteView, descriptors: Sequence[Descriptor], base: int) -> List[Volume]:
    """The volumes of one set, the primary one first."""
    found = [
        read_volume(descriptor, view.name, base)
        for descriptor in descriptors
        if descriptor.kind in (Kind.PRIMARY, Kind.SUPPLEMENTARY)
    ]
    found.sort(key=lambda volume: volume.descriptor.kind is not Kind.PRIMARY)
    if not found or found[0].descriptor.kind is not Kind.PRIMARY:
        raise MalformedError("there is no primary volume descriptor", where=view.name)
    return found


def _further_bases(view: ByteView, area: SystemArea, last: int) -> List[int]:
    """Where volumes begin whose own descriptors stand behind block ``last``: at partitions, or xorriso's place."""
    starts = {PARTITION_OFFSET, *(first // SECTORS for _, first, _ in partitions(area) if first % SECTORS == 0)}
    return [base for base in sorted(starts) if base + SYSTEM_AREA > last and has_descriptors(view, base + SYSTEM_AREA)]


def _copies(
    view: ByteView, known: Sequence[Descriptor], volumes: Sequence[Volume]
) -> Iterator[Tuple[Tuple[Descriptor, ...], List[Volume]]]:
    """Sets of descriptors that lead to the same trees as others do, and their volumes.

    xorriso writes a session behind the place for a copy of its descriptors; a boot information table may name either.
    """
    taken = {descriptor.lba for descriptor in known}
    roots = {(volume.base, volume.root_extent) for volume in volumes}
    for first in range(SYSTEM_AREA, SYSTEM_AREA + _COPY_SEARCH):
        if first in taken or not has_descriptors(view, first):
            continue
        try:
            found = read_descriptors(view, first)
            for base in sorted({volume.base for volume in volumes}):
                copied = _volumes(view, found, base)
                if all((base, volume.root_extent) in roots for volume in copied):
                    taken |= {descriptor.lba for descriptor in found}
                    yield found, copied
        except RespinError:
            continue  # something else that happens to begin like a descriptor: it's only moved


def trees_of(view: ByteView, volumes: Sequence[Volume]) -> Tuple[Tree, ...]:
    """One tree for all volumes with the same root."""
    groups: Dict[Tuple[int, bool, int], List[Volume]] = {}
    for volume in volumes:
        groups.setdefault((volume.base, volume.naming is Naming.JOLIET, volume.root_extent), []).append(volume)
    return tuple(read_tree(view, tuple(group)) for group in groups.values())


def best_tree(trees: Sequence[Tree]) -> Tree:
    """The tree whose names people know: Rock Ridge, else Joliet, else the first."""
    for tree in trees:
        if any(node.rock_ridge is not None and node.rock_ridge.name is not None for node in tree.root.nodes):
            return tree
    return next((tree for tree in trees if tree.naming is Naming.JOLIET), trees[0])
