"""SELinux file contexts: which label a policy gives to a path (selabel_file(5), restorecon(8)), without libselinux."""

from respin.formats.selinux.filecontexts import XATTR, FileContexts
from respin.formats.selinux.pattern import Pattern

__all__ = ["XATTR", "FileContexts", "Pattern"]
