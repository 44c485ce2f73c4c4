"""What is found out about the vendor's Node beside the installation, on a view of its own."""

from __future__ import annotations

from dataclasses import dataclass

from respin.byteview import ByteView
from respin.node.consistency import is_even
from respin.node.image import open_node
from respin.node.knownprofiles import known
from respin.node.protected import ProtectedPaths, protected_paths
from respin.node.rootimage import NestedRoot
from respin.trust import TrustStore


@dataclass(frozen=True)
class Vendor:
    """``even`` is what :func:`respin.node.consistency.is_even` says of the root, False of a flat one."""

    even: bool
    protected: ProtectedPaths


def look_through(iso: ByteView, trust: TrustStore) -> Vendor:
    """Look through the vendor's Node; it is opened anew, so that another thread can do it."""
    node = open_node(iso, known(trust))
    even = isinstance(node.image, NestedRoot) and is_even(node.image.tree)
    return Vendor(even, protected_paths(node.iso, node.root, node.profile))
