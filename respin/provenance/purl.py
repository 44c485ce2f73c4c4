"""What a package is called everywhere: its package URL."""

from __future__ import annotations

from packageurl import PackageURL

from respin.formats.rpmfile import PackageInfo
from respin.safepath import show


def package_url(header: PackageInfo, vendor: str) -> str:
    """The purl of a package (github.com/package-url/purl-spec, type rpm)."""
    qualifiers = {"arch": header.arch, **({"epoch": str(header.epoch)} if header.epoch else {})}
    namespace = show(vendor).lower().replace(" ", "-").replace("/", "-") or "unknown"
    return PackageURL("rpm", namespace, header.name, f"{header.version}-{header.release}", qualifiers).to_string()
