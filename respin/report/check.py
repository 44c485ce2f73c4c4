"""What ``respin check`` found, for people."""

from __future__ import annotations

from typing import Sequence

from rich.text import Text

from respin.check import Checked, Device
from respin.node.devices import Taker
from respin.policy.drivers import Judgement
from respin.safepath import show

_WIDTH = 14


def render(found: Checked) -> Text:
    """The verdict, every finding with what to do, every driver, every device."""
    names = ", ".join(show(name) for name in found.plugins)
    text = Text()
    if found.findings:
        text.append("REFUSED", style="bold red").append(f"  {names} would not be built into {show(found.node)}\n")
    else:
        text.append("FITS", style="bold green").append(f"  {names} can be built into {show(found.node)}\n")
    text.append(f"\n  {'base':{_WIDTH}}{found.base}\n")
    for one in found.findings:
        text.append(f"\n  {one.id}", style="red").append(f"  {show(one.place)}\n    {one.message}\n")
        if one.remedy:
            text.append("    what to do: ", style="bold").append(f"{one.remedy}\n")
    for warning in found.warnings:
        text.append("\n  note: ", style="yellow").append(f"{show(warning)}\n")
    for judgement in found.drivers:
        _driver(text, judgement)
    if found.places:
        text.append("\nWhere the drivers will be\n", style="bold")
        for place, says in found.places:
            text.append(f"  {show(place)}: {show(says)}\n")
    if found.devices is not None:
        _devices(text, found.devices)
    text.rstrip()
    return text


def _driver(text: Text, judgement: Judgement) -> None:
    module, driver = judgement.driver.module, judgement.driver
    text.append(f"\nDriver {show(module.name)}", style="bold")
    text.append(
        f"  {'will not load' if judgement.findings else 'will load'}\n", style="red" if judgement.findings else ""
    )
    known = judgement.symbols - len(judgement.unknown_symbols)
    symbols = f"{judgement.symbols}, the CRCs of {known} are known in this Node"
    text.append(f"  {'file':{_WIDTH}}{show(driver.path)}\n  {'built for':{_WIDTH}}{show(module.vermagic)}\n")
    text.append(f"  {'symbols':{_WIDTH}}{symbols}\n")
    text.append(f"  {'needs':{_WIDTH}}{', '.join(map(show, module.depends)) or 'no other module'}\n")
    for name, path in judgement.firmware.items():
        text.append(f"  {'firmware':{_WIDTH}}{show(name)}: {show(path) if path else 'not there'}\n")
    text.append(f"  {'Secure Boot':{_WIDTH}}{show(judgement.secure_boot)}\n")


def _devices(text: Text, devices: Sequence[Device]) -> None:
    text.append("\nDevices, and what drives them before -> after\n", style="bold")
    for one in devices:
        before, after = _names(one.before), _names(one.after)
        style = "green" if one.after and not one.before else ("red" if not one.after else "")
        says = before if before == after else f"{before} -> {after}"
        text.append(f"  {one.device.slot} [{one.device.id}] {show(one.device.name)}: ").append(f"{says}\n", style=style)


def _names(found: Sequence[Taker]) -> str:
    return ", ".join(show(one.name) + ("" if one.certain else " (perhaps)") for one in found) or "nothing"
