"""The directory of a tree into which a new file goes: found by its path, whatever the tree makes of names."""

from __future__ import annotations

from typing import Optional, Sequence

from respin.errors import UnsupportedError, UsageError
from respin.formats.iso9660.descriptors import Naming
from respin.formats.iso9660.layout import NewFile
from respin.formats.iso9660.names import list_tree, node_name
from respin.formats.iso9660.tree import Directory, Tree
from respin.safepath import show

_JOLIET_NAME = 64


def parent_in(tree: Tree, file: NewFile, where: str) -> Directory:
    """The directory of ``tree`` that holds ``file``; UnsupportedError when the tree has none of that path."""
    if file.parent == "/":
        return tree.root
    if tree.skip is not None:
        found = list_tree(tree, where).directories.get(file.parent)
    else:
        found = _walk(tree, file.parent.split("/")[1:], where)
    if found is None:
        raise UnsupportedError(
            f"the {tree.label} tree has no directory {show(file.parent)}",
            where=f"{where}:{show(file.path)}",
            remedy="put the file into a directory that all trees of the image have",
            finding="no-such-directory",
        )
    return found


def require_parents(directories: Sequence[str], add: Sequence[NewFile], where: str) -> None:
    """Raise UsageError unless every new file goes into one of ``directories``."""
    known = set(directories)
    for file in add:
        if not file.path.startswith("/") or file.parent not in known:
            raise UsageError(
                f"there is no directory {show(file.parent)} in the image",
                where=f"{where}:{show(file.path)}",
                remedy="files can be added to directories that are there; paths are absolute",
                finding="no-such-directory",
            )


def _walk(tree: Tree, parts: Sequence[str], where: str) -> Optional[Directory]:
    """Down a tree without Rock Ridge, whose names may be shortened: the one directory that a name can mean."""
    directory = tree.root
    for part in parts:
        names = {
            node_name(tree, node, where): node.record.extent
            for node in directory.nodes
            if node.record.is_directory and not node.is_special
        }
        wanted = part if part in names else _shortened(tree, part)
        if wanted not in names:
            return None
        directory = tree.directories[names[wanted]]
    return directory


def _shortened(tree: Tree, name: str) -> str:
    """What mastering programs make of a directory's name that the tree can't hold."""
    if tree.naming is Naming.JOLIET:
        return name[:_JOLIET_NAME]
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()
    return plain if tree.naming is Naming.ISO9660 else name
