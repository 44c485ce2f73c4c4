"""A verification report for people."""

from __future__ import annotations

from typing import List, Union

from rich.text import Text

from respin.safepath import show
from respin.verify.report import Report, Status

_WORDS = {Status.PASSED: ("passed  ", "green"), Status.NOT_DONE: ("not done", "yellow")}


def render(report: Report) -> Text:
    """The verdict in one line, then the links of the chain, then what was added and by whom."""
    parts: List[Union[str, Text]] = []
    if report.complete:
        parts += [
            Text("PASSED", style="bold green"),
            f"  {report.iso} is {_name(report)} plus exactly the plugins below\n",
        ]
    elif report.signer is None:
        parts += [
            Text("NOT SIGNED", style="bold yellow"),
            f"  {report.iso} is what its statement says, and nobody signed that yet: `respin sign` does\n",
        ]
    else:
        parts += [
            Text("PASSED", style="bold green"),
            Text(" (not all checks were done)", style="yellow"),
            f"  {report.iso} is what its maker signed\n",
        ]
    parts.append("\n")
    width = max(len(link.name) for link in report.links)
    for link in report.links:
        word, style = _WORDS[link.status]
        parts += ["  ", Text(word, style=style), f"  {link.name:<{width}}  {link.detail}\n"]
    parts.append("\nPlugins\n")
    for plugin in report.plugins:
        parts.append(
            f"  {show(str(plugin['name']))}\n    signed by {plugin.get('signer')} (tier {plugin.get('tier')})\n"
        )
        parts += [
            f"    {show(str(package['name']))}  sha256 {str(package['sha256'])[:16]}...,"
            f" signed by {package.get('signer')}\n"
            for package in report.packages
            if package.get("bundle") == plugin["name"]
        ]
    if report.signatures:
        parts.append("\nSignatures on the statement\n")
    for signature in report.signatures:
        names = [show(str(name)) for name in signature.get("user_ids", ())][:1]
        parts.append(f"  {signature['verdict']:<12} {' '.join([*names, show(str(signature['key']))])}\n")
    if report.trust is not None:
        ends, time = report.trust["expires"], report.trust["judged_at"]
        parts.append(f"\nTrust store sha256 {report.trust['sha256']}" + (f", expires {ends}" if ends else ""))
        parts.append(f", judged as of {time}\n" if time else "\n")
    return Text.assemble(*parts, end="")


def _name(report: Report) -> str:
    product = show(report.product)
    return f"the vendor's {report.base['name']}" + (f" ({product})" if product else "")
