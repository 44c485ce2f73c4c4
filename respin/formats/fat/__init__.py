"""FAT12, FAT16 and FAT32 volumes (Microsoft's FAT specification of 2005): read, and files replaced in place.

``volume`` reads boot sector, allocation table and directories with long names; ``replace`` gives a file other content.
exFAT, volumes of which one copy of the table is not in use, and adding or removing names are not covered.
"""

from respin.formats.fat.replace import replace_files
from respin.formats.fat.volume import FatFile, FatVolume, is_fat

__all__ = ["FatFile", "FatVolume", "is_fat", "replace_files"]
