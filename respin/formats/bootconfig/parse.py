"""Which syntax a boot configuration has, and reading it."""

from __future__ import annotations

import re
from typing import Optional

from respin.formats.bootconfig import grub, isolinux, lines
from respin.formats.bootconfig.model import Config, Kind

_ISOLINUX = re.compile(r"(?:.*/)?(?:(?:iso|sys|ext)linux\.(?:cfg|conf)|(?:iso|sys|ext)linux/[^/]*\.cfg)", re.I)
_BLS = re.compile(r"(?:.*/)?loader/entries/[^/]*\.conf", re.I)
_GRUB = re.compile(r"(?:.*/)?(?:grub[^/]*|loopback|kernels|config|theme)\.cfg", re.I)
_LEGACY_LINE = re.compile(r"^[ \t]*kernel[ \t]", re.M | re.I)
_BLS_LINE = re.compile(r"^[ \t]*(?:options|linux)[ \t]", re.M)
_ISOLINUX_LINE = re.compile(r"^[ \t]*(?:label|append|menu)[ \t]", re.M | re.I)


def kind_of(path: str, data: bytes) -> Optional[Kind]:
    """The syntax of a file, by its name where that says it, else by its lines; None for what is none of them."""
    text = data.decode("latin-1")
    if _ISOLINUX.fullmatch(path):
        return Kind.ISOLINUX
    if path.lower().endswith(".conf"):
        if _BLS.fullmatch(path):
            return Kind.BLS
        if _LEGACY_LINE.search(text):
            return Kind.GRUB_LEGACY
        return Kind.BLS if _BLS_LINE.search(text) else None
    if _GRUB.fullmatch(path):
        return Kind.GRUB
    if path.lower().endswith(".cfg"):
        return Kind.ISOLINUX if _ISOLINUX_LINE.search(text) else Kind.GRUB
    return None


def parse(data: bytes, kind: Kind, name: str) -> Config:
    """Read a configuration of a known syntax; ``name`` is for messages. Every text is one, so nothing is raised."""
    text = data.decode("latin-1")
    if kind is Kind.ISOLINUX:
        return isolinux.parse(text, name)
    if kind is Kind.GRUB:
        return grub.parse(text, name)
    return lines.parse_legacy(text, name) if kind is Kind.GRUB_LEGACY else lines.parse_bls(text, name)
