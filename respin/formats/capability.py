"""File capabilities: the text of libcap's cap_from_text(3) and the extended attribute ``security.capability``.

Covered: clauses of capability names and one operator (``cap_net_raw,cap_net_admin=ep``, ``= cap_net_raw+ep``), which is
what RPM headers hold; the attribute's revision 2 (linux/capability.h), little endian, 64 bits.
"""

from __future__ import annotations

import re
import struct
from typing import Dict, Set

from respin.errors import UnsupportedError
from respin.safepath import show

XATTR = "security.capability"
# By number.
NAMES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
_NUMBERS = {f"cap_{name}": number for number, name in enumerate(NAMES)}
_CLAUSE = re.compile(r"(?P<names>[a-z_,]*)(?P<operator>[=+-])(?P<flags>[eip]*)")
_REVISION_2, _EFFECTIVE = 0x0200_0000, 1


def from_text(text: str, *, where: str = "") -> bytes:
    """The attribute's value for capabilities as text; UnsupportedError for a spelling that is not covered."""
    flags: Dict[str, Set[int]] = {"e": set(), "i": set(), "p": set()}
    for word in text.split():
        clause = _CLAUSE.fullmatch(word)
        names = clause["names"].split(",") if clause and clause["names"] not in ("", "all") else []
        if clause is None or any(name not in _NUMBERS for name in names) or (not names and clause["operator"] != "="):
            raise UnsupportedError(
                f"the capabilities {show(text)!r} are not spelled as expected",
                where=where or None,
                remedy="spell them as cap_net_raw,cap_net_admin=ep",
                finding="capabilities",
            )
        numbers = {_NUMBERS[name] for name in names} or set(_NUMBERS.values())
        for flag, members in flags.items():
            if clause["operator"] == "=":
                members -= numbers
            if flag in clause["flags"] and clause["operator"] == "-":
                members -= numbers
            elif flag in clause["flags"]:
                members |= numbers
    permitted, inheritable = (sum(1 << number for number in flags[flag]) for flag in "pi")
    mask = 0xFFFF_FFFF
    return struct.pack(
        "<5I",
        _REVISION_2 | (_EFFECTIVE if flags["e"] else 0),
        permitted & mask,
        inheritable & mask,
        permitted >> 32,
        inheritable >> 32,
    )
