"""What was written for starting from a network, for people."""

from __future__ import annotations

from rich.text import Text

from respin.node.base import NOT_VERIFIED
from respin.pxe.model import GRUB, IPXE, PXELINUX
from respin.pxe.pxe import Written
from respin.safepath import show

_HOW = {
    "respun": "verified: the respun ISO, by its signatures and every byte",
    "vendor-signed": "verified: the vendor's ISO, by the vendor's signed CHECKSUM",
    "pinned": "verified: by the digest that was given",
    NOT_VERIFIED: "not verified: --trust DIR does that",
}


def render(done: Written) -> Text:
    """What is there, what it was made of, what to do with it."""
    plan, proof = done.plan, done.proof
    text = Text()
    text.append(f"Written: {done.request.output} ({len(done.sizes)} files, {sum(done.sizes.values())} bytes)\n")
    text.append(f"  way: {plan.mode}, of the profile {done.profile.id}\n")
    how = _HOW[proof.how] + ("" if proof.complete or proof.how == NOT_VERIFIED else ", without the vendor's ISO")
    text.append("  ISO: ").append(how, style="yellow" if proof.how == NOT_VERIFIED else "green")
    text.append(f"\n  sha256 {proof.sha256}\n")
    text.append(f"  entries: {', '.join(one.label for one in plan.entries)}\n")
    for warning in plan.warnings:
        text.append("  warning: ", style="bold yellow").append(f"{show(warning)}\n")
    text.append(f"  serve it by TFTP or http: {PXELINUX}, {GRUB} and {IPXE} start the Node")
    return text
