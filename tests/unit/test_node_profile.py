"""Profiles and version files: what they protect, what they refuse."""

from __future__ import annotations

import pytest

from respin.errors import MalformedError, UsageError
from respin.node import profileparser, versionfile
from respin.node.knownprofiles import built_in
from respin.safepath import first_match

EXAMPLE = {one.id: one for one in built_in()}["example-node"]


def test_the_built_in_profiles_are_valid_and_have_different_ids() -> None:
    ids = [one.id for one in built_in()]
    assert {"example-node", "ovirt-node-classic"} <= set(ids)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "path",
    [
        "/usr/sbin/persist",
        "/config/files",
        "/etc/systemd/system/node-config.service",
        "/etc/systemd/system/node-config.service.d/10.conf",
        "/usr/lib/systemd/system/node-.service.d/10.conf",
        "/usr/lib/systemd/system/node-config.service.wants/x.service",
        "/run/systemd/system/node-config.service",
    ],
)
def test_every_road_to_the_persistence_layer_is_protected(path: str) -> None:
    assert first_match(path, EXAMPLE.protected["persistence"].root_patterns)


def test_a_plugins_own_paths_are_not_protected() -> None:
    for path in ("/usr/lib/systemd/system/agent.service", "/usr/sbin/persistent", "/etc/agent.conf"):
        for members in EXAMPLE.protected.values():
            assert first_match(path, members.root_patterns) is None


def test_a_profile_without_a_protected_set_is_refused() -> None:
    with pytest.raises(UsageError, match="protected"):
        profileparser.parse('schema = 1\nid = "x"\n[recognise]\n[layout]\n', "x.toml")
    with pytest.raises(UsageError, match="TOML"):
        profileparser.parse("schema = ", "x.toml")


def test_version_files_are_data() -> None:
    text = b"# comment\nPRODUCT='Example Node'\nVERSION=1.0\nRELEASE=\"1\"\n\n"
    assert versionfile.parse(text, "v") == {"PRODUCT": "Example Node", "VERSION": "1.0", "RELEASE": "1"}


@pytest.mark.parametrize("line", [b"VERSION=$(id)", b"VERSION=1; id", b"rm -rf /", b'VERSION="`id`"', b"A=\x1b[2J"])
def test_a_version_file_that_is_code_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        versionfile.parse(b"PRODUCT=x\n" + line + b"\n", "v")
