"""Bills of materials of ISOs: rpm says what must be in them, CycloneDX's schema what they must look like."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Dict, Set

from tests.end_to_end.conftest import Respun, sha256
from tests.support.cyclonedx import errors
from tests.support.forge import Forge, respin
from tests.support.images import nested_image


def made(iso: Path, output: Path, *options: str) -> Dict[str, Any]:
    """A bill of materials by the command; CycloneDX's schema accepts it."""
    done = respin("sbom", iso, "-o", output, *options, "--json")
    assert done.code == 0, done.err
    data = output.read_bytes()
    assert errors(data) is None
    document: Dict[str, Any] = json.loads(data)
    assert done.json["components"] == len(document["components"])
    return document


def recorded(iso: Path, directory: Path) -> Set[str]:
    """NAME VERSION-RELEASE LICENSE of every package, as rpm reads the database out of the root image."""
    image = nested_image(iso, directory)
    database = directory / "db"
    database.mkdir()
    dump = f"dump /var/lib/rpm/rpmdb.sqlite {database}/rpmdb.sqlite"
    subprocess.run(["debugfs", "-R", dump, image], check=True, capture_output=True)
    image.unlink()
    query = ["rpm", "--dbpath", database, "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE} %{LICENSE}\n"]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    shutil.rmtree(database)
    return set(listed.splitlines())


def described(document: Dict[str, Any]) -> Set[str]:
    return {f"{one['name']} {one['version']} {one['licenses'][0]['license']['name']}" for one in document["components"]}


def test_what_was_added(respun: Respun, tmp_path: Path) -> None:
    document = made(respun.iso, tmp_path / "added.json")
    (component,) = document["components"]
    assert (component["name"], component["version"]) == ("good", "1.0-1")
    assert component["purl"] == "pkg:rpm/test/good@1.0-1?arch=noarch"
    with tarfile.open(respun.plugin) as bundle:
        bundle.extract("rpms/good-1.0-1.noarch.rpm", tmp_path)
    rpm = tmp_path / "rpms" / "good-1.0-1.noarch.rpm"
    assert component["hashes"] == [{"alg": "SHA-256", "content": sha256(rpm)}]
    beside = respun.iso.with_name(respun.iso.name + ".added.cdx.json")
    assert beside.read_bytes() == (tmp_path / "added.json").read_bytes(), "the build left the same beside the ISO"


def test_the_whole_root_and_a_stock_iso(forge: Forge, respun: Respun, tmp_path: Path) -> None:
    stock = made(forge.iso, tmp_path / "stock.json", "--all")
    assert described(stock) == recorded(forge.iso, tmp_path)
    whole = made(respun.iso, tmp_path / "whole.json", "--all")
    assert described(whole) == recorded(respun.iso, tmp_path)
    assert described(whole) - described(stock) == {"good 1.0-1 Apache-2.0"}
    assert stock["serialNumber"] != whole["serialNumber"]
    assert (tmp_path / "stock.json").read_bytes() == _again(forge.iso, tmp_path)


def _again(iso: Path, tmp_path: Path) -> bytes:
    made(iso, tmp_path / "again.json", "--all")
    return (tmp_path / "again.json").read_bytes()


def test_nothing_was_added_to_a_stock_iso(forge: Forge, tmp_path: Path) -> None:
    done = respin("sbom", forge.iso, "-o", tmp_path / "x.json")
    assert done.code == 2
    assert "--all" in done.err
    assert not (tmp_path / "x.json").exists()
