"""Boot loader configurations: isolinux.cfg, grub.cfg, GRUB legacy's grub.conf and Boot Loader Specification entries.

Read is what matters for the kernel's command line: which lines start a Linux kernel, with which words, and which other
files are read. Scripts are not run: what a variable holds is not known. ``edit`` changes words and keeps every other
byte.
"""

from respin.formats.bootconfig.edit import LONGEST, ArgumentEdit, edit_arguments, matches
from respin.formats.bootconfig.model import Config, Entry, Kind, Word
from respin.formats.bootconfig.parse import kind_of, parse

__all__ = [
    "LONGEST",
    "ArgumentEdit",
    "Config",
    "Entry",
    "Kind",
    "Word",
    "edit_arguments",
    "kind_of",
    "matches",
    "parse",
]
