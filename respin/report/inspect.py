"""An inspection for people."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, List, Mapping, Sequence

from rich.text import Text

from respin.inspect import Inspection
from respin.node.recognise import Places
from respin.root.growth import megabytes
from respin.safepath import show


def render(found: Inspection) -> Text:
    """What the ISO is, how it boots, what was added to it."""
    profile = found.identity.profile
    created = found.iso.get("created")
    when = "" if created is None else datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines: List[str] = [
        _line("product", show(found.identity.product) or "unknown"),
        _line("profile", f"{profile.title} ({profile.id})" if profile else "none of the known Nodes"),
        _line("volume", f"{show(str(found.iso['volume_id']))}, made {when or 'at an unknown time'}"),
        _line("trees", f"{', '.join(found.iso['trees'])}; {_count(found.iso['files'], 'file', 'files')}"),
        _line("boots by", _boot(found.iso)),
        _line("media check", "implanted" if found.media_check else "none"),
        _line("root image", ": ".join(filter(None, (found.identity.root_image, found.identity.layout)))),
        *_places(found.identity.places),
        *_boot_files(found),
        *_protected(found),
    ]
    if found.node is not None:
        lines += [
            _line("kernels", ", ".join(found.node["kernels"]) or "none"),
            _line("rpm database", _database(found.node)),
            *([_line("SELinux", _selinux(found.node["selinux"]))] if found.node["selinux"] is not None else []),
        ]
    if found.node is not None and not found.node_reason:
        lines.append(_line("", "respin can build on this ISO"))
    else:
        lines.append(_line("", f"respin cannot build on this ISO: {found.node_reason}"))
    if found.provenance is None:
        lines.append(_line("provenance", found.provenance_reason))
    else:
        lines += _provenance(found.provenance, found.provenance_reason)
    lines += _tests(found.beside, found.beside_reason)
    if found.carrier is not None:
        lines.append(_line("carrier", _carrier(found.carrier)))
    elif found.carrier_reason:
        lines.append(_line("carrier", found.carrier_reason))
    return Text("\n".join(lines))


def _places(places: Places) -> List[str]:
    """The other parts that the profile knows, one line each, as far as there are any."""
    named = (
        ("stage2", places.stage2),
        ("kernel", places.kernels),
        ("initrd", places.initrds),
        ("checksums", places.checksums),
    )
    return [_line(name, ", ".join(map(show, paths))) for name, paths in named if paths]


def _protected(found: Inspection) -> List[str]:
    """What is the installer's and the persistence layer's: files on the ISO by name, the rest as the profile has it."""
    profile = found.identity.profile
    lines = []
    for name, members in sorted(profile.protected.items()) if profile is not None else ():
        files = found.identity.places.protected.get(name, ())
        parts = (
            ("on the ISO", files),
            ("packages", members.packages),
            ("in the root", members.root),
            ("units", members.units),
        )
        lines += [_line(name, f"{what} {', '.join(map(show, which))}") for what, which in parts if which]
    return lines


def _boot_files(found: Inspection) -> List[str]:
    """The copies of the boot configuration, and what could not be looked into."""
    places = [f"{show(one['place'])} ({_count(len(one['entries']), 'entry', 'entries')})" for one in found.boot_files]
    closed = [f"{show(one['name'])}: {one['reason']}" for one in found.boot_images if "reason" in one]
    return [_line("boot config", one) for one in (*places, *closed)]


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _database(node: Mapping[str, Any]) -> str:
    return f"{show(node['rpm_database'])} ({node['rpm_backend']})" if node["rpm_database"] else "none"


def _selinux(found: Mapping[str, Any]) -> str:
    if found["problem"] is not None:
        return show(found["problem"])
    policy = "no policy with file contexts" if found["type"] is None else f"policy {show(found['type'])}"
    mode = "" if found["mode"] is None else f", {show(found['mode'])}"
    return f"{policy}{mode}; the vendor's files are {'' if found['labelled'] else 'not '}labelled"


def _carrier(carrier: Mapping[str, Any]) -> str:
    table = "; its partition table was moved to the end" if carrier["partition_table"] == "moved" else ""
    return f"{carrier['trailing']} bytes lie behind the ISO's {carrier['iso_size']}{table}"


def _provenance(provenance: Mapping[str, Any], reason: str) -> List[str]:
    base = provenance["base"]
    lines = [
        _line("provenance", reason),
        _line("made from", f"{base['name']}, sha256 {base['sha256']} ({base['verified']})"),
    ]
    for plugin in provenance["plugins"]:
        lines.append(_line("plugin", f"{show(plugin['name'])}, signed by {plugin.get('signer')}"))
    lines += [_line("package", show(package["name"])) for package in provenance["packages"]]
    if provenance["grown"] is not None:
        sizes = (megabytes(provenance["grown"][name]) for name in ("old_size", "new_size"))
        lines.append(_line("root image", f"its file system was grown from {' to '.join(sizes)}"))
    lines.append(_line("signatures", ", ".join(provenance["signatures"]) or "none"))
    return lines


def _tests(beside: Sequence[Mapping[str, Any]], reason: str) -> List[str]:
    """One line per result of tests: what, by whom, and whether it is of this ISO."""
    lines = [] if beside or reason == "not verified" else [_line("tests", reason)]
    for one in beside:
        if "result" not in one:
            continue
        counts = ", ".join(f"{len(one[word])} {word}" for word in ("passed", "warned", "failed") if one[word])
        which = "" if one["this_iso"] else "; of another ISO, or of this one before it was signed again"
        signers = ", ".join(one["signatures"]) or "nobody"
        lines.append(_line("tests", f"{one['result']}: {counts}; signed by {signers}, {reason}{which}"))
    return lines


def _boot(iso: Mapping[str, Any]) -> str:
    ways = [f"{entry['platform']} from CD ({entry['path'] or 'hidden image'})" for entry in iso["boot"]]
    area = iso["system_area"]
    if area["boot_code"] != "none":
        ways.append(f"BIOS from disk ({area['boot_code']})")
    if area["gpt"]:
        ways.append("UEFI from disk (GPT)")
    return "; ".join(ways) or "nothing: not bootable"


def _line(name: str, value: str) -> str:
    return f"{name:<13} {value}"
