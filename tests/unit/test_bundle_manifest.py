"""The manifest: one spelling, every key checked, all parts consistent."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.bundle import parse_manifest
from respin.bundle.schema import subject_name
from respin.errors import MalformedError, RespinError, UnsupportedError
from tests.support.bundles import spell

H = "55" * 32
VALID: Dict[str, Any] = {
    "schema": "respin.plugin/1",
    "name": "exnic",
    "version": "1.2",
    "release": "1.el9",
    "arch": "x86_64",
    "vendor": "Example NIC Corporation",
    "summary": "Driver for the Exämple NIC",
    "license": "",
    "target": {
        "profiles": ["classic", "ng-*"],
        "products": ["*"],
        "versions": {"at_least": "1.0", "below": ""},
        "architectures": ["x86_64"],
        "kernels": ["6.1.0-*-amd64"],
    },
    "effects": {
        "paths": ["/etc/exnic.conf", "/lib/modules/*/extra/**", "/usr/lib/exnic/**"],
        "replaces": ["/etc/motd"],
        "setuid": ["/usr/bin/exnic"],
        "capabilities": {"/usr/bin/exping": "cap_net_raw=ep"},
        "scriptlets": [
            {"nevra": "kmod-exnic-1:1.0-1.x86_64", "kind": "postin", "interpreter": ["/bin/sh"], "sha256": "ab" * 32}
        ],
        "units": ["exnic.service", "exnic@eth0.service"],
        "users": ["exnic"],
        "groups": ["exnic"],
        "kernel_modules": ["exnic", "exnic_core"],
        "initrd_modules": ["exnic"],
        "kernel_arguments": ["exnic.debug=1", "exnic.a=2"],
        "accepts_unmet": ["kernel(sym) = 0x1234"],
    },
    "files": [
        {"path": "LICENSE", "size": 0, "sha256": "11" * 32},
        {"path": "rpms/a.rpm", "size": 1000, "sha256": "22" * 32},
        {"path": "rpms/b.rpm", "size": 1000, "sha256": "33" * 32},
    ],
    "rpms": [
        {"path": "rpms/a.rpm", "nevra": "kmod-exnic-1:1.0-1.x86_64", "sha256": "22" * 32, "header_sha256": H},
        {"path": "rpms/b.rpm", "nevra": "exnic-tools-1.0~rc1-1.noarch", "sha256": "33" * 32, "header_sha256": H},
    ],
    "conflicts": ["othernic", "x*"],
    "after": ["base-tools"],
}


def test_a_manifest_is_read_and_spelled_as_json_does() -> None:
    data = spell(VALID)
    manifest = parse_manifest(data)
    assert manifest.encode() == data
    assert manifest.file_name == "exnic-1.2-1.el9.x86_64.plugin.tar"
    assert manifest.nvr == "exnic-1.2-1.el9"
    assert manifest.effects.capabilities == (("/usr/bin/exping", "cap_net_raw=ep"),)
    assert manifest.effects.kernel_arguments == ("exnic.debug=1", "exnic.a=2")
    assert manifest.target.kernels == ("6.1.0-*-amd64",)
    assert [rpm.path for rpm in manifest.rpms] == ["rpms/a.rpm", "rpms/b.rpm"]
    assert subject_name(data) == "exnic"


@pytest.mark.parametrize(
    "spelling",
    [
        json.dumps(VALID, sort_keys=True, ensure_ascii=False).encode(),
        spell(VALID)[:-1],
        spell(VALID) + b"\n",
        spell(VALID).replace("ä".encode(), b"\\u00e4"),
        json.dumps(VALID, indent=2, ensure_ascii=False).encode() + b"\n",
        spell(VALID).replace(b"\n", b"\r\n"),
    ],
)
def test_only_one_spelling_is_accepted(spelling: bytes) -> None:
    assert json.loads(spelling) == VALID
    with pytest.raises(MalformedError, match="canonical"):
        parse_manifest(spelling)


def at(*path: Any) -> Callable[[Dict[str, Any]], None]:
    """A change: the last of ``path`` is put where the others point; KeyError removes."""
    *way, last, value = path

    def change(manifest: Dict[str, Any]) -> None:
        inner: Any = manifest
        for step in way:
            inner = inner[step]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value

    return change


EFFECT, TARGET = "effects", "target"
BAD = [
    *[at(key, KeyError) for key in VALID],
    *[at(EFFECT, key, KeyError) for key in VALID["effects"]],
    *[at(TARGET, key, KeyError) for key in VALID["target"]],
    at("unknown", 1),
    at(EFFECT, "unknown", []),
    at(TARGET, "unknown", []),
    at("files", 0, "unknown", 1),
    at("rpms", 0, "unknown", 1),
    at(EFFECT, "scriptlets", 0, "unknown", 1),
    at("name", ""),
    at("name", "a/b"),
    at("name", "-x"),
    at("name", "x" * 101),
    at("version", "1-2"),
    at("release", "1 2"),
    at("summary", "x\u202ey"),
    at("summary", "x\ny"),
    at("vendor", "\u001b[31m"),
    at("vendor", 7),
    at(TARGET, "profiles", []),
    at(TARGET, "products", []),
    at(TARGET, "architectures", []),
    at(TARGET, "architectures", ["aarch64"]),
    at(TARGET, "architectures", ["aarch64", "x86_64"]),
    at(TARGET, "architectures", ["noarch"]),
    at(TARGET, "profiles", ["b", "a"]),
    at(TARGET, "versions", "at_least", "1-1"),
    at(EFFECT, "paths", ["etc/x"]),
    at(EFFECT, "paths", ["/etc/../x"]),
    at(EFFECT, "paths", ["/etc/x", "/etc/a"]),
    at(EFFECT, "paths", ["/**"]),
    at(EFFECT, "paths", ["/"]),
    at(EFFECT, "paths", ["/etc/**"]),
    at(EFFECT, "paths", ["/etc/*"]),
    at(EFFECT, "paths", ["/e*/x"]),
    at(EFFECT, "paths", ["/usr/**/x"]),
    at(EFFECT, "paths", ["/usr/lib/x**"]),
    at(EFFECT, "paths", ["/usr/lib/[a-z]"]),
    at(EFFECT, "setuid", ["usr/bin/x"]),
    at(EFFECT, "replaces", ["/etc//motd"]),
    at(EFFECT, "capabilities", {"usr/bin/x": "cap_net_raw=ep"}),
    at(EFFECT, "capabilities", {"/usr/bin/x": ""}),
    at(EFFECT, "capabilities", []),
    at(EFFECT, "units", ["exnic"]),
    at(EFFECT, "units", ["a/b.service"]),
    at(EFFECT, "users", ["Root"]),
    at(EFFECT, "users", ["root"]),
    at(EFFECT, "groups", ["root"]),
    at(EFFECT, "kernel_modules", ["a-b", "exnic"]),
    at(EFFECT, "initrd_modules", ["other"]),
    at(EFFECT, "kernel_arguments", ["a b"]),
    at(EFFECT, "kernel_arguments", ['a="b']),
    at(EFFECT, "scriptlets", 0, "sha256", "xy"),
    at(EFFECT, "scriptlets", 0, "nevra", "other-1-1.noarch"),
    at(EFFECT, "scriptlets", 0, "kind", "Post in"),
    at(EFFECT, "scriptlets", VALID["effects"]["scriptlets"] * 2),
    at("files", []),
    at("files", 0, "path", "README.txt"),
    at("files", 0, "path", "manifest.json"),
    at("files", 0, "path", "../LICENSE"),
    at("files", 0, "size", -1),
    at("files", 0, "size", 1 << 40),
    at("files", 0, "size", True),
    at("files", list(reversed(VALID["files"]))),
    at("files", VALID["files"] + VALID["files"][-1:]),
    at("rpms", []),
    at("rpms", VALID["rpms"][:1]),
    at("rpms", 0, "sha256", "44" * 32),
    at("rpms", 0, "nevra", "exnic-tools-1.0~rc1-1.noarch"),
    at("rpms", 0, "nevra", "nonsense"),
    at("rpms", 0, "header_sha256", "xy"),
    at("conflicts", ["a/b"]),
    at("after", ["x*"]),
    at("after", "x"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_manifest_with_one_thing_wrong_is_refused(number: int) -> None:
    manifest = copy.deepcopy(VALID)
    BAD[number](manifest)
    with pytest.raises(MalformedError) as caught:
        parse_manifest(spell(manifest), where="x.tar: manifest.json")
    assert caught.value.where == "x.tar: manifest.json"
    assert caught.value.finding in ("bad-manifest", "bad-member")
    assert caught.value.finding == "bad-member" or "respin bundle create" in str(caught.value.remedy)


def test_a_member_that_stands_twice_is_refused() -> None:
    data = spell(VALID).replace(b'  "name": "exnic",\n', b'  "name": "exnic",\n  "name": "exnic",\n')
    with pytest.raises(MalformedError, match="twice"):
        parse_manifest(data)
    with pytest.raises(MalformedError, match="twice"):
        subject_name(data)


@pytest.mark.parametrize(
    "change", [at("schema", "respin.plugin/2"), at("arch", "sparc"), at(TARGET, "architectures", ["sparc"])]
)
def test_what_another_respin_may_know_is_unsupported(change: Callable[[Dict[str, Any]], None]) -> None:
    manifest = copy.deepcopy(VALID)
    change(manifest)
    with pytest.raises(UnsupportedError):
        parse_manifest(spell(manifest))


def test_a_bundle_for_every_architecture() -> None:
    manifest = copy.deepcopy(VALID)
    manifest["arch"] = "noarch"
    manifest["target"]["architectures"] = ["aarch64", "x86_64"]
    assert parse_manifest(spell(manifest)).target.architectures == ("aarch64", "x86_64")


@given(st.integers(0), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_flipped_byte_is_refused_or_gives_another_manifest(position: int, byte: int) -> None:
    data = bytearray(spell(VALID))
    data[position % len(data)] = byte
    try:
        manifest = parse_manifest(bytes(data))
    except RespinError:
        return
    assert manifest.encode() == bytes(data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x), max_leaves=5))
@settings(max_examples=100, deadline=None)
def test_any_value_in_any_place_is_a_typed_error(value: Any) -> None:
    for key in VALID:
        manifest = {**VALID, key: value}
        try:
            data = spell(manifest)
        except UnicodeEncodeError:
            return
        try:
            assert parse_manifest(data).encode() == data
        except RespinError:
            pass
