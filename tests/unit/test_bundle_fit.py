"""Which Nodes a plugin is for; rpm's own comparison is the oracle for versions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.bundle import Target
from respin.bundle.fit import compare_versions, mismatches

rpm = pytest.importorskip("rpm")

TARGET = Target(
    profiles=("classic",),
    products=("Example *",),
    at_least="2.0",
    below="3.0~beta",
    architectures=("x86_64",),
    kernels=("6.1.0-*-amd64",),
)
NODE = {
    "profile": "classic",
    "product": "Example Node",
    "version": "2.5",
    "architecture": "x86_64",
    "kernels": ["6.1.0-18-amd64"],
}


def findings(**changes: object) -> "list[str]":
    return [finding for finding, _ in mismatches(TARGET, **{**NODE, **changes})]  # type: ignore[arg-type]


def test_a_node_that_is_meant() -> None:
    assert findings() == []
    assert findings(version="2.0") == []
    assert findings(kernels=[]) == []
    assert findings(kernels=["6.1.0-18-amd64", "6.1.0-20-amd64"]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "ng"},
        {"product": "Other Node"},
        {"product": "\x1b[31m"},
        {"version": "1.9"},
        {"version": "2.0~rc1"},
        {"version": "3.0"},
        {"version": "3.0~beta"},
        {"architecture": "aarch64"},
    ],
)
def test_a_node_that_is_not_meant(changes: "dict[str, object]") -> None:
    assert findings(**changes) == ["wrong-target"]


def test_every_kernel_must_fit() -> None:
    assert findings(kernels=["6.1.0-18-amd64", "5.10"]) == ["kernel-mismatch"]


PARTS = ["0", "1", "2", "10", "007", "a", "b", "rc", "~", "^", ".", "_", "+"]
VERSIONS = st.lists(st.sampled_from(PARTS), max_size=6).map(lambda parts: "1" + "".join(parts))  # rpm wants one


@given(VERSIONS, VERSIONS)
@settings(max_examples=300, deadline=None)
def test_versions_compare_as_rpm_compares_them(one: str, other: str) -> None:
    assert compare_versions(one, other) == rpm.labelCompare(("0", one, "1"), ("0", other, "1"))
