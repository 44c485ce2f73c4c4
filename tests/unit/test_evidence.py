"""What a respun ISO carries of its plugins: signed headers instead of packages, and which ones counts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict, Mapping

import pytest

from respin.bundle import verify
from respin.byteview import BytesView, FileView
from respin.errors import VerificationError
from respin.formats.rpmfile import RpmFile
from respin.provenance import evidence
from respin.trust import TrustStore
from respin.trust.rpmheaders import header_signatures
from tests.support.bundles import KERNEL, BundleWorld, bundle_world
from tests.support.keys import KeyWorld

DRIVER = "1/rpms/2.header"


@pytest.fixture(scope="module")
def world(key_world: KeyWorld) -> BundleWorld:
    return bundle_world(key_world)


@pytest.fixture(scope="module")
def trust(world: BundleWorld) -> TrustStore:
    return TrustStore.load(world.trust)


@pytest.fixture
def members(world: BundleWorld, trust: TrustStore, tmp_path: Path) -> Dict[str, bytes]:
    """The evidence of a build with the valid bundle."""
    bundle = verify(world.signed, trust, tmp_path)
    bundle.close()
    return dict(evidence.unpack(BytesView(evidence.pack(b"", [bundle]), "evidence")))


def judged(members: Mapping[str, bytes], trust: TrustStore, tmpdir: Path) -> evidence.ProvenBundle:
    digests = {"exnic-1.2-1.x86_64.plugin.tar": "00" * 32}
    (bundle,) = evidence.verify_bundles(members, digests, trust, where="evidence", tmpdir=tmpdir)
    return bundle


def test_the_headers_prove_the_packages(members: Dict[str, bytes], trust: TrustStore, tmp_path: Path) -> None:
    proven = judged(members, trust, tmp_path)
    assert [one.header.nevra for one in proven.rpms] == ["exagent-1.0-1.noarch", "kmod-exnic-1.0-1.x86_64"]


def test_a_package_that_was_built_and_signed_twice_under_one_name(
    world: BundleWorld, members: Dict[str, bytes], trust: TrustStore, tmp_path: Path
) -> None:
    """Both headers have good signatures; the plugin's maker meant one of them."""
    content = {f"/lib/modules/{KERNEL}/extra/exnic.ko": "another module, withdrawn since\n"}
    other = world.keys.build_rpm(
        tmp_path / "rpms", "kmod-exnic", arch="x86_64", files=content, sections="%post\ndepmod -a\n"
    )
    signed = world.keys.sign_rpm(other)
    with signed.open("rb") as file:
        view = FileView(file.fileno(), "other")
        parsed = RpmFile.parse(view)
        start, end = parsed.signature_range
        raw = parsed.header.raw
        signatures = header_signatures(view.read(start, end - start), raw)
    shutil.rmtree(tmp_path / "rpms")
    theirs = {name: data for name, data in members.items() if not name.startswith(f"{DRIVER}.")}
    theirs[DRIVER] = raw
    theirs.update({f"{DRIVER}.{number}.sig": packets for number, packets in enumerate(signatures, 1)})
    assert parsed.header.nevra == "kmod-exnic-1.0-1.x86_64"
    with pytest.raises(VerificationError) as caught:
        judged(theirs, trust, tmp_path)
    assert caught.value.finding == "evidence"
    assert DRIVER in str(caught.value)
