"""Files on the medium with digests of others: they follow what changed, so that their readers find them right."""

from __future__ import annotations

import hashlib
from typing import Callable, Dict, List, Mapping, Tuple

from respin.byteview import BytesView, ByteView, chunks
from respin.errors import UnsupportedError
from respin.formats.digestfile import PlacedDigest, in_kickstart, in_list, in_treeinfo, with_digests
from respin.formats.iso9660.image import IsoImage
from respin.limits import LIMITS
from respin.medium.edit import Edited, MediumEdit
from respin.node.profile import Profile
from respin.node.recognise import matching
from respin.segments import Data

CHECKSUM = "checksum"
Finder = Callable[[bytes], Tuple[PlacedDigest, ...]]


def with_checksums(iso: IsoImage, profile: Profile, edit: MediumEdit, root: str, new_root: ByteView) -> MediumEdit:
    """``edit`` with the digests of everything that changes renewed, the root image at ``root`` among them.

    Raises UnsupportedError for files that name each other's digests in a circle.
    """
    finders = _finders(iso, profile)
    if not finders:
        return edit
    views: Dict[str, ByteView] = {path: edit.view(iso, path) for path in edit.changed_paths(iso)}
    views.update({name: new_root for name, file in iso.files.items() if file.lba == iso.files[root].lba})
    known: Dict[Tuple[str, str], str] = {}
    found: Dict[str, bytes] = {}
    for _ in range(len(finders) + 1):
        before = dict(found)
        for path, find in finders.items():
            data = b"".join(chunks(edit.view(iso, path)))
            named = [one for one in find(data) if one.path in views and one.path != path]
            after = with_digests(data, [(one, _digest(views, one, known)) for one in named])
            if after != data and after != found.get(path):
                found[path] = after
                views[path] = BytesView(after, path)
                known = {key: value for key, value in known.items() if key[0] != path}
        if found == before:
            break
    else:
        raise UnsupportedError(
            f"the files {', '.join(sorted(found))} name each other's digests in a circle",
            where=iso.name,
            remedy="nothing could make all of them right; tell the vendor",
            finding="checksum-circle",
        )
    return _joined(edit, found)


def _finders(iso: IsoImage, profile: Profile) -> Mapping[str, Finder]:
    """The files with digests, each with what finds them; further names of one file are left out."""
    wanted = profile.checksums
    kinds: List[Tuple[Tuple[str, ...], Finder]] = [
        (wanted.kickstarts, in_kickstart),
        (wanted.treeinfo, in_treeinfo),
        (wanted.sums, in_list),
    ]
    found: Dict[str, Finder] = {}
    for patterns, finder in kinds:
        for path in matching(iso, patterns):
            if 0 < iso.files[path].size <= LIMITS.small_file:
                found.setdefault(path, finder)
    return found


def _digest(views: Mapping[str, ByteView], place: PlacedDigest, known: Dict[Tuple[str, str], str]) -> str:
    key = place.path, place.algorithm
    if key not in known:
        digest = hashlib.new(place.algorithm)
        for piece in chunks(views[place.path]):
            digest.update(piece)
        known[key] = digest.hexdigest()
    return known[key]


def _joined(edit: MediumEdit, found: Mapping[str, bytes]) -> MediumEdit:
    """A file that was changed for another reason is changed once more."""
    files = {**edit.files, **{path: (Data(data),) for path, data in found.items()}}
    return MediumEdit(files, edit.patches, edit.edited + tuple(Edited(path, CHECKSUM) for path in sorted(found)))
