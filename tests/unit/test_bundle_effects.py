"""Lint and declared effects, judged on package headers that differ from a harmless one in one thing."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import Any, Tuple

import pytest

from respin.bundle import effects, lint
from respin.bundle.manifest import DeclaredScriptlet, Effects, Manifest, Target
from respin.digest import sha256_hex
from respin.errors import PolicyError, UnsupportedError
from respin.formats.rpmfile import Dependency, FileEntry, RpmHeader, Scriptlet

FILE = FileEntry(
    path="/usr/lib/exnic/data", mode=stat.S_IFREG | 0o644, user="root", group="root", mtime=0, size=1, digest="ab",
    digest_algorithm="sha256", linkto="", rdev=0, flags=0, caps="", inode=1,
)  # fmt: skip
HEADER = RpmHeader(
    name="exnic", epoch=None, version="1.0", release="1", arch="x86_64", os="linux", summary="", vendor="", license="",
    sourcerpm="exnic-1.0-1.src.rpm", files=(FILE,), scriptlets=(), requires=(), provides=(), conflicts=(),
    obsoletes=(), payload_digest="", payload_digest_algorithm="", is_source=False, format=4, raw=b"",
    sha256="",
)  # fmt: skip
MANIFEST = Manifest(
    name="exnic", version="1.0", release="1", arch="x86_64", vendor="v", summary="s", license="",
    target=Target(("*",), ("*",), "", "", ("x86_64",), ()), effects=Effects(), files=(), rpms=(), conflicts=(),
    after=(),
)  # fmt: skip
BODY = "echo hello\n"
SCRIPTLET = DeclaredScriptlet("exnic-1.0-1.x86_64", "postin", ("/bin/sh",), sha256_hex(BODY.encode()))


def header(*files: FileEntry, **changes: Any) -> RpmHeader:
    return replace(HEADER, files=files or HEADER.files, **changes)


def entry(path: str = FILE.path, **changes: Any) -> FileEntry:
    return replace(FILE, path=path, **changes)


# -- lint --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        entry(),
        entry("/usr/lib/exnic", mode=stat.S_IFDIR | 0o755),
        entry("/usr/lib/exnic/link", mode=stat.S_IFLNK | 0o777, linkto="../x"),
        entry("/var/spool/exnic", mode=stat.S_IFDIR | 0o1777),
        entry("/usr/bin/exnic", mode=stat.S_IFREG | 0o4755),
        entry("/devices/x"),
        entry("/usr/share/ä b"),
    ],
)
def test_harmless_files(good: FileEntry) -> None:
    lint.check(MANIFEST, [header(good)], where="x.tar")


@pytest.mark.parametrize(
    ("finding", "bad"),
    [
        ("volatile-path", entry("/proc/x")),
        ("volatile-path", entry("/sys")),
        ("volatile-path", entry("/dev/exnic")),
        ("volatile-path", entry("/run/exnic.pid")),
        ("volatile-path", entry("/tmp/x")),
        ("bad-path", entry("/usr/lib/a\nb")),
        ("bad-path", entry("/usr/lib/\x1b[2J")),
        ("bad-path", entry("/usr/lib/a\u202eb")),
        ("bad-path", entry("/usr/lib/\udcff")),
        ("bad-path", entry("/usr/../proc/x")),
        ("bad-path", entry("usr/x")),
        ("bad-path", entry("/usr//x")),
        ("bad-path", entry("/usr/x/")),
        ("bad-path", entry("")),
        ("bad-path", entry(mode=stat.S_IFLNK | 0o777, linkto="a\nb")),
        ("device-node", entry(mode=stat.S_IFCHR | 0o600)),
        ("device-node", entry(mode=stat.S_IFBLK | 0o600)),
        ("device-node", entry(mode=stat.S_IFIFO | 0o600)),
        ("device-node", entry(mode=stat.S_IFSOCK | 0o600)),
        ("device-node", entry(mode=0o600)),
        ("world-writable", entry(mode=stat.S_IFDIR | 0o777)),
        ("world-writable", entry(mode=stat.S_IFREG | 0o666)),
        ("world-writable", entry(mode=stat.S_IFREG | 0o1666)),
    ],
)
def test_refused_files(finding: str, bad: FileEntry) -> None:
    with pytest.raises(PolicyError) as caught:
        lint.check(MANIFEST, [header(FILE, bad)], where="x.tar")
    assert caught.value.finding == finding
    assert caught.value.where == "x.tar"
    assert "exnic-1.0-1.x86_64" in caught.value.what
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_all_bad_files_are_named() -> None:
    with pytest.raises(PolicyError) as caught:
        lint.check(MANIFEST, [header(entry("/run/a"), entry("/tmp/b"))], where="x.tar")
    assert "/run/a" in caught.value.what
    assert "/tmp/b" in caught.value.also[0]


@pytest.mark.parametrize(
    ("finding", "changes"),
    [
        ("foreign-arch", {"arch": "aarch64"}),
        ("foreign-arch", {"arch": "i686"}),
        ("foreign-arch", {"os": "freebsd"}),
        ("source-package", {"is_source": True}),
    ],
)
def test_packages_that_could_not_be_installed(finding: str, changes: Any) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lint.check(MANIFEST, [header(**changes)], where="x.tar")
    assert (caught.value.finding, caught.value.exit_code) == (finding, 7)


def test_a_bundle_for_every_architecture_holds_packages_for_every_one() -> None:
    lint.check(replace(MANIFEST, arch="noarch"), [header(arch="noarch")], where="x.tar")
    with pytest.raises(UnsupportedError):
        lint.check(replace(MANIFEST, arch="noarch"), [header()], where="x.tar")


# -- effects -----------------------------------------------------------------------------------------------------------

UNIT = "/usr/lib/systemd/system/exnic.service"
EVERYTHING = header(
    FILE,
    entry("/lib/modules/6.1/extra/ex-nic.ko.xz"),
    entry("/usr/bin/exnic", mode=stat.S_IFREG | 0o4755),
    entry("/usr/bin/exping", caps="cap_net_raw=ep"),
    entry(UNIT),
    entry("/usr/lib/systemd/system/exnic@.service"),
    entry("/etc/systemd/system/multi-user.target.wants/exnic.service", mode=stat.S_IFLNK | 0o777),
    scriptlets=(Scriptlet("postin", ("/bin/sh",), BODY),),
    provides=(Dependency("user(exnic)", 0, ""), Dependency("group(exgroup)", 0, ""), Dependency("exnic", 8, "1.0")),
)
DECLARED = Effects(
    paths=(
        "/etc/systemd/system/multi-user.target.wants/exnic.service", "/lib/modules/*/extra/**", "/usr/bin/*",
        "/usr/lib/exnic/**", "/usr/lib/systemd/system/exnic.service", "/usr/lib/systemd/system/exnic@.service",
    ),
    setuid=("/usr/bin/exnic",),
    capabilities=(("/usr/bin/exping", "cap_net_raw=ep"),),
    scriptlets=(SCRIPTLET,),
    units=("exnic.service", "exnic@a.b.service"),
    users=("exnic", "other"),
    groups=("exgroup",),
    kernel_modules=("ex_nic",),
)  # fmt: skip


def test_everything_is_derived() -> None:
    derived = effects.derive([EVERYTHING])
    assert derived.setuid == {"/usr/bin/exnic"}
    assert derived.capabilities == {("/usr/bin/exping", "cap_net_raw=ep")}
    assert derived.scriptlets == {SCRIPTLET}
    assert derived.kernel_modules == {"ex_nic"}
    assert derived.units == {"exnic.service"}
    assert derived.shipped == {"exnic.service", "exnic@.service"}
    assert (derived.users, derived.groups) == ({"exnic"}, {"exgroup"})
    assert derived.paths == tuple(sorted(file.path for file in EVERYTHING.files))


def test_what_is_declared_in_full_is_accepted() -> None:
    effects.check(DECLARED, effects.derive([EVERYTHING]), where="x.tar")


def without(name: str, *, only: int = -1) -> Effects:
    value: Tuple[Any, ...] = getattr(DECLARED, name)
    return replace(DECLARED, **{name: () if only < 0 else value[:only] + value[only + 1 :]})


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        *[(without("paths", only=number), DECLARED.paths[number].split("*")[0]) for number in range(6)],
        (without("setuid"), "/usr/bin/exnic"),
        (without("capabilities"), "/usr/bin/exping"),
        (replace(DECLARED, capabilities=(("/usr/bin/exping", "cap_sys_admin=ep"),)), "cap_net_raw"),
        (without("scriptlets"), "%postin of exnic-1.0-1.x86_64"),
        (replace(DECLARED, scriptlets=(replace(SCRIPTLET, sha256="00" * 32),)), "%postin"),
        (replace(DECLARED, scriptlets=(replace(SCRIPTLET, interpreter=("/bin/bash",)),)), "%postin"),
        (replace(DECLARED, scriptlets=(replace(SCRIPTLET, kind="prein"),)), "%postin"),
        (without("units"), "exnic.service"),
        (without("users"), "exnic"),
        (without("groups"), "exgroup"),
        (without("kernel_modules"), "ex_nic"),
    ],
)
def test_an_undeclared_effect_is_refused_and_named(declared: Effects, named: str) -> None:
    with pytest.raises(PolicyError) as caught:
        effects.check(declared, effects.derive([EVERYTHING]), where="x.tar")
    assert (caught.value.finding, caught.value.exit_code) == ("undeclared-effect", 4)
    assert named in caught.value.what


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        (replace(DECLARED, setuid=("/usr/bin/exnic", "/usr/bin/exping")), "/usr/bin/exping"),
        (replace(DECLARED, capabilities=(*DECLARED.capabilities, ("/usr/x", "cap_net_raw=ep"))), "/usr/x"),
        (replace(DECLARED, scriptlets=(SCRIPTLET, replace(SCRIPTLET, kind="preun"))), "%preun"),
        (replace(DECLARED, kernel_modules=("ex_nic", "other")), "other"),
        (replace(DECLARED, units=("exnic.service", "sshd.service")), "sshd.service"),
        (replace(DECLARED, units=("exnic.service", "exnic.timer")), "exnic.timer"),
    ],
)
def test_a_declared_effect_that_no_package_has_is_refused(declared: Effects, named: str) -> None:
    with pytest.raises(PolicyError) as caught:
        effects.check(declared, effects.derive([EVERYTHING]), where="x.tar")
    assert caught.value.finding == "effect-mismatch"
    assert named in caught.value.what


def test_setgid_counts_and_links_do_not() -> None:
    derived = effects.derive(
        [header(entry("/a/b", mode=stat.S_IFDIR | 0o2755), entry("/a/c", mode=stat.S_IFLNK | 0o6777))]
    )
    assert derived.setuid == {"/a/b"}


def test_code_that_is_not_text_is_hashed_too() -> None:
    derived = effects.derive([header(scriptlets=(Scriptlet("postin", ("<lua>",), "\udcff"),))])
    assert [one.sha256 for one in derived.scriptlets] == [sha256_hex(b"\xff")]
