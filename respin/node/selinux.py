"""A Node's SELinux policy as far as labels of files go: its file contexts, read from the root as libselinux does.

``/etc/selinux/config`` names the type of the policy (``targeted`` if it says nothing); the texts lie below
``/etc/selinux/TYPE/contexts/files``. Whether the policy is enforced does not matter here: labels are on disk anyway.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

from respin.digest import sha256_hex
from respin.errors import RespinError, UnsupportedError
from respin.formats.selinux import XATTR, FileContexts
from respin.limits import LIMITS
from respin.root.delta import KINDS, Attributes, Kind
from respin.roottree import RootTree
from respin.safepath import show
from respin.strictjson import Fields

_TOP = "/etc/selinux"
_DEFAULT_TYPE = "targeted"
_CONTEXTS = ("", ".homedirs", ".local")
_LOCAL_SUBS, _DISTRIBUTION_SUBS = ".subs", ".subs_dist"
_MODES: Mapping[Kind, int] = {kind: mode for mode, kind in KINDS.items()}
_SAMPLE = ("/", "/etc", "/usr")


@dataclass(frozen=True)
class PolicyId:
    """By which policy labels are computed: its type, and the SHA-256 of each text by path."""

    type: str
    files: Mapping[str, str]

    def to_json(self) -> Dict[str, Any]:
        """As plain data."""
        return {"type": self.type, "file_contexts": dict(self.files)}

    @classmethod
    def from_fields(cls, fields: Fields) -> "PolicyId":
        """The reverse of :meth:`to_json`."""
        files = fields.fields("file_contexts")
        found = cls(fields.text("type"), {path: files.sha256(path) for path in files.names()})
        fields.done()
        return found


@dataclass(frozen=True)
class SelinuxPolicy:
    """What labels are computed with."""

    id: PolicyId
    contexts: FileContexts = field(repr=False)
    _known: Dict[str, Optional[bytes]] = field(default_factory=dict, repr=False, compare=False)

    def label(self, path: str, kind: Kind) -> Optional[bytes]:
        """The value of ``security.selinux`` for a file of ``kind`` at ``path``; None if the policy leaves it alone.

        Raises UnsupportedError (finding ``selinux-pattern``) for a pattern that cannot be matched.
        """
        key = f"{kind.value} {path}"
        if key not in self._known:
            context = self.contexts.label(os.fsencode(path), _MODES[kind])
            self._known[key] = None if context is None else context + b"\0"
        return self._known[key]


def read_policy(root: RootTree[Any]) -> Optional[SelinuxPolicy]:
    """The policy of a root, or None if it has none.

    Raises UnsupportedError (finding ``selinux-policy``) for a policy that the kernel would load but that has no file
    contexts, MalformedError (``selinux-contexts``) for texts that cannot be read.
    """
    if root.lookup(_TOP) is None:
        return None
    kind = _setting(root, "SELINUXTYPE") or _DEFAULT_TYPE
    if "/" in kind or kind in (".", ".."):
        raise _unusable(root, f"the type of the SELinux policy is {show(kind)!r}, which is no name of a directory")
    start = f"{_TOP}/{kind}/contexts/files/file_contexts"
    texts = {start + end: _read(root, start + end) for end in (*_CONTEXTS, _LOCAL_SUBS, _DISTRIBUTION_SUBS)}
    found = {path: text for path, text in texts.items() if text is not None}
    if start not in found:
        if _has_binary_policy(root, kind):
            raise _unusable(root, f"the Node has the SELinux policy {show(kind)}, but not its {start}")
        return None
    contexts = FileContexts(
        {f"{root.view.name}:{start}{end}": found[start + end] for end in _CONTEXTS if start + end in found},
        found.get(start + _LOCAL_SUBS, b""),
        found.get(start + _DISTRIBUTION_SUBS, b""),
    )
    return SelinuxPolicy(PolicyId(kind, {path: sha256_hex(text) for path, text in sorted(found.items())}), contexts)


def describe(root: RootTree[Any]) -> Optional[Mapping[str, Any]]:
    """What can be said of SELinux on a Node; None if there is no sign of it.

    ``type`` is None without a policy that has file contexts, ``mode`` what the configuration asks for, ``labelled``
    whether files carry labels, ``problem`` why labels of new files cannot be computed.
    """
    policy, problem = None, None
    try:
        policy = read_policy(root)
    except RespinError as error:
        problem = str(error)
    labelled = any(
        XATTR in root.xattrs(inode) for path in _SAMPLE for inode in [root.lookup(path)] if inode is not None
    )
    mode = _setting(root, "SELINUX")
    if policy is None and problem is None and not labelled and mode is None:
        return None
    return {
        "type": None if policy is None else policy.id.type,
        "mode": mode,
        "labelled": labelled,
        "problem": problem,
    }


def without_label(attributes: Attributes) -> Mapping[str, bytes]:
    """The extended attributes besides the label."""
    return {name: value for name, value in attributes.xattrs.items() if name != XATTR}


def show_label(value: Optional[bytes]) -> str:
    """A label for people."""
    return (
        "no label"
        if value is None
        else show(value.rstrip(b"\0").decode("utf-8", "surrogateescape")) or "an empty label"
    )


def _setting(root: RootTree[Any], name: str) -> Optional[str]:
    """What ``/etc/selinux/config`` says last for ``name``; the case of names does not matter."""
    found = None
    for line in (_read(root, f"{_TOP}/config") or b"").decode("utf-8", "surrogateescape").splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and key.upper() == name and value.strip():
            found = value.strip()
    return found


def _read(root: RootTree[Any], path: str) -> Optional[bytes]:
    found = root.resolve(path)
    return None if found is None or not found.inode.is_file else root.read(found.inode, LIMITS.small_file)


def _has_binary_policy(root: RootTree[Any], kind: str) -> bool:
    found = root.resolve(f"{_TOP}/{kind}/policy")
    names = root.listdir(found.path) if found is not None and found.inode.is_directory else []
    return any(name.startswith("policy.") for name in names)


def _unusable(root: RootTree[Any], what: str) -> UnsupportedError:
    return UnsupportedError(
        what,
        where=root.view.name,
        remedy="the labels of new files cannot be computed on this Node; ask its vendor",
        finding="selinux-policy",
    )
