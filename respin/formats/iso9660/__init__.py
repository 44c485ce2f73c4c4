"""ISO 9660 images: reading them, and splicing replaced and new files into one.

``image`` reads (over ``descriptors``, ``volumes``, ``tree``, ``names``, ``eltorito`` and ``systemarea``); ``plan``
splices (over ``support`` and ``separable``, which refuse, ``ends``, ``layout``, ``rebuilt`` and the two ``relocate``
modules).
"""

from respin.formats.iso9660.eltorito import BootEntry
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.layout import NewFile, Piece, Place, Source
from respin.formats.iso9660.names import IsoFile
from respin.formats.iso9660.patches import Patch
from respin.formats.iso9660.plan import SplicePlan, plan_splice

__all__ = [
    "BootEntry",
    "IsoFile",
    "IsoImage",
    "NewFile",
    "Patch",
    "Piece",
    "Place",
    "Source",
    "SplicePlan",
    "plan_splice",
]
