"""The check of an installed Node for people."""

from __future__ import annotations

from typing import List, Union

from rich.text import Text

from respin.host.report import HostReport
from respin.safepath import show

MOST = 200


def render(report: HostReport) -> Text:
    """The verdict, what drifted, what the Node says it is made of, and what that proves."""
    facts, counts = report.facts, report.counts
    parts: List[Union[str, Text]] = []
    if report.consistent:
        parts += [Text("CONSISTENT", style="bold green"), f"  {report.root} agrees with {_with(report)}\n"]
    else:
        parts += [
            Text("DRIFT", style="bold red"),
            f"  {report.root}: {len(report.drift)} things are not as installed\n",
        ]
    for one in report.drift[:MOST]:
        owner = f" ({show(one.package)}{', configuration' if one.config else ''})" if one.package else ""
        parts.append(f"  {show(one.path) or 'package'}: {one.what}{owner}\n")
    if len(report.drift) > MOST:
        parts.append(f"  and {len(report.drift) - MOST} more; --json lists all\n")
    parts.append(f"\nproduct   {show(report.product) or 'unknown'}\n")
    parts.append(f"made from {show(facts.base_name)}, sha256 {facts.base_sha256} ({show(facts.base_verified)})\n")
    for plugin in facts.plugins:
        name = f"{plugin.name}-{plugin.version}-{plugin.release}"
        parts.append(f"plugin    {show(name)}, said to be signed by {show(plugin.signer)}\n")
        parts += [f"package   {show(package.nevra)}\n" for package in plugin.packages]
    looked = f"{counts['packages']} packages of plugins with {counts['files']} files"
    if report.iso is None:
        looked += f"; the vendor's {counts['other_packages']} were not looked at"
    else:
        looked += f", {counts['paths']} paths of the ISO's root"
    parts.append(f"\nlooked at {looked}\n{report.proves}\n")
    return Text.assemble(*parts, end="")


def _with(report: HostReport) -> str:
    return "the facts in it" if report.iso is None else f"the root of {report.iso['iso']}, which was verified"
