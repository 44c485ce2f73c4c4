"""Boot menus for who starts from a network: PXELINUX, GRUB and iPXE.

PXELINUX and GRUB fetch kernel and initrds from beside the configuration, whatever they were started from; iPXE does,
too, unless a base URL is given.
"""

from __future__ import annotations

from typing import List, Mapping

from respin.pxe.model import GRUB, IPXE, PXELINUX, NetworkEntry, NetworkPlan

_SECONDS = 5


def configurations(plan: NetworkPlan) -> Mapping[str, bytes]:
    """The three configurations by their relative names."""
    texts = {PXELINUX: pxelinux(plan), GRUB: grub(plan), IPXE: ipxe(plan)}
    return {name: "".join(f"{line}\n" for line in lines).encode("ascii") for name, lines in texts.items()}


def pxelinux(plan: NetworkPlan) -> List[str]:
    """``pxelinux.cfg/default``: names count from the directory in which pxelinux.0 is."""
    lines = [
        f"# {plan.title}",
        f"default {plan.entries[0].label}",
        "prompt 1",
        f"timeout {_SECONDS * 10}",
        f"say {plan.title}: {' '.join(one.label for one in plan.entries)}",
    ]
    for one in plan.entries:
        initrds = [f"initrd={','.join(one.initrds)}"] if one.initrds else []
        words = " ".join([*initrds, *one.arguments])
        lines += ["", f"label {one.label}", f"  kernel {one.kernel}", *([f"  append {words}"] if words else [])]
    return lines


def grub(plan: NetworkPlan) -> List[str]:
    """``grub.cfg``: GRUB says in ``config_directory`` where it read it, as long as it reads it."""
    lines = [f"# {plan.title}", 'set respin_node="$config_directory"', "set default=0", f"set timeout={_SECONDS}"]
    for one in plan.entries:
        lines += ["", f"menuentry '{plan.title}: {one.label}' --id {one.label} {{"]
        lines.append(" ".join([f'    linux "$respin_node/{one.kernel}"', *map(_quoted, one.arguments)]))
        if one.initrds:
            lines.append(" ".join(["    initrd", *(f'"$respin_node/{name}"' for name in one.initrds)]))
        lines.append("}")
    return lines


def ipxe(plan: NetworkPlan) -> List[str]:
    """``boot.ipxe``: relative names count from the script's own URL."""
    base = f"{plan.url}/" if plan.url else ""
    lines = ["#!ipxe", f"# {plan.title}"]
    if len(plan.entries) > 1:
        first = plan.entries[0].label
        lines += [f"menu {plan.title}", *(f"item {one.label} {one.label}" for one in plan.entries)]
        lines += [f"choose --default {first} --timeout {_SECONDS * 1000} entry || exit", "goto ${entry}"]
    for one in plan.entries:
        lines += ["", f":{one.label}", *_ipxe_entry(one, base)]
    return lines


def _ipxe_entry(one: NetworkEntry, base: str) -> List[str]:
    """By UEFI the kernel itself asks for the initrds, by the names that its arguments give them."""
    names = [f"initrd={name.rpartition('/')[2]}" for name in one.initrds]
    kernel = " ".join([f"kernel {base}{one.kernel}", *names, *one.arguments])
    return ["imgfree", kernel, *(f"initrd {base}{name}" for name in one.initrds), "boot"]


def _quoted(word: str) -> str:
    return word if all(letter.isalnum() or letter in "_.,:/=@%+~^-" for letter in word) else f"'{word}'"
