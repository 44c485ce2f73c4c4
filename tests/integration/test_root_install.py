"""Whole installations into a small root that really runs scriptlets; debugfs, e2fsck and rpm judge the result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Callable, List, Tuple

import pytest

from respin.errors import (
    BuildError,
    MissingToolError,
    PolicyError,
    RespinError,
    UnsupportedError,
    VerificationError,
)
from respin.root.delta import Change, Delta, Kind
from respin.root.syscalls import CAPABILITIES
from tests.support.images import build_squashfs, debugfs, fsck_clean, run
from tests.support.keys import KeyWorld
from tests.support.roots import (
    JOB_EPOCH,
    KERNEL,
    OFFSET,
    Installer,
    NodeImage,
    Packages,
    SharedNode,
    blocks,
    make_module,
    pack,
    run_without_fuse,
    wrap,
)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse may not be opened"
)


@pytest.fixture(scope="module")
def root(shared_node: SharedNode) -> Path:
    return shared_node[0]


@pytest.fixture(scope="module")
def node(shared_node: SharedNode) -> NodeImage:
    return shared_node[1]


@pytest.fixture(scope="module")
def packages(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(key_world, tmp_path_factory.mktemp("packages"))


@pytest.fixture
def installer(tmp_path: Path, node: NodeImage, key_world: KeyWorld) -> Installer:
    return Installer(tmp_path, node, [key_world.public("rpm")])


@pytest.fixture(scope="module")
def rich(packages: Packages) -> Path:
    """Every kind of entry that a package may bring."""
    install = """cd %{buildroot}
mkdir -p opt/rich/many opt/rich/owned usr/bin etc
for i in $(seq 700); do echo $i >"opt/rich/many/a file with a rather long name, number $i"; done
echo tool >usr/bin/rich-tool
ln -s ../../usr/bin/rich-tool opt/rich/link
ln -s /a/very/long/target/that/does/not/fit/into/an/inode/of/an/ext/file/system/at/all opt/rich/longlink
echo hard >opt/rich/hard1; ln opt/rich/hard1 opt/rich/hard2; ln opt/rich/hard1 opt/hard3
truncate -s 3M opt/rich/sparse; echo end >>opt/rich/sparse
head -c 1500000 /dev/zero | tr '\\0' 'x' >opt/rich/indirect
: >opt/rich/empty
echo unit >'opt/rich/dev-disk-by\\x2duuid.mount'
echo capable >usr/bin/capable
"""
    files = """%dir /opt/rich
/opt/rich/many
%attr(0750, svc, svc) %dir /opt/rich/owned
%attr(4755, root, root) /usr/bin/rich-tool
%caps(cap_net_raw=ep) /usr/bin/capable
/opt/rich/link
/opt/rich/longlink
/opt/rich/hard1
/opt/rich/hard2
/opt/hard3
/opt/rich/sparse
/opt/rich/indirect
/opt/rich/empty
/opt/rich/dev-*
"""
    sections = """%pre
echo 'svc:x:990:990::/:/bin/false' >>/etc/passwd
echo 'svc:x:990:' >>/etc/group
%post
touch /usr/share/vendor/deep/file1
chmod 0600 /usr/share/vendor/deep/file2
echo changed >/usr/share/vendor/deep/file3
rm -r /usr/share/vendor/deep/er
rm /usr/share/vendor/hard2
rm /usr/share/vendor/link; mkdir /usr/share/vendor/link; echo in >/usr/share/vendor/link/in
: >/usr/share/vendor/deep/new
chmod 0711 /usr/share/vendor
mkfifo /opt/rich/pipe
"""
    return packages.build("rich", install=install, files=files, sections=sections)


def stat_of(image: Path, path: str) -> "dict[str, str]":
    """What debugfs says about a path: its words after "Mode:" and the like."""
    words = debugfs(image, f'stat "{path}"').split()
    return {key: words[words.index(key) + 1] for key in ("Type:", "Mode:", "User:", "Group:", "Size:", "Links:")}


def times_of(image: Path, path: str) -> "set[int]":
    lines = debugfs(image, f'stat "{path}"').splitlines()
    return {int(line.split("0x")[1].split(":")[0], 16) for line in lines if "time: 0x" in line}


def content_of(image: Path, path: str) -> bytes:
    return run("debugfs", "-R", f'cat "{path}"', image)


def test_rich_package(installer: Installer, rich: Path) -> None:
    owned = {"/opt/rich/many": 1_500_000_000, "/opt/rich/hard1": 1_500_000_001}
    seen: List[Delta] = []
    installed = installer.run([rich], seen.append, owned_mtimes=owned, facts={"/usr/share/respin/f.json": b"{}\n"})
    delta = installed.delta
    assert seen == [delta]
    changed = {entry.path for entry in delta.changed}
    assert changed == {
        "/etc/group",
        "/etc/passwd",
        "/usr/share/vendor",
        "/usr/share/vendor/deep/file2",
        "/usr/share/vendor/deep/file3",
        "/usr/share/vendor/link",
        "/var/lib/rpm/rpmdb.sqlite",
    }
    assert {entry.path for entry in delta.removed} == {"/usr/share/vendor/deep/er", "/usr/share/vendor/hard2"}
    assert len(delta.added) == 700 + 17
    hard = delta.get("/opt/rich/hard1")
    assert hard is not None
    assert hard.link_group == "/opt/hard3"
    capable = delta.get("/usr/bin/capable")
    assert capable is not None
    assert capable.new is not None
    assert capable.new.xattrs == {"security.capability": bytes.fromhex("01000002" + "00200000" + "00" * 12)}

    image = installer.write_image(installed)
    fsck_clean(image)
    assert stat_of(image, "/usr/bin/rich-tool")["Mode:"] == "04755"
    assert stat_of(image, "/opt/rich/owned")["User:"] == "990"
    assert stat_of(image, "/opt/hard3")["Links:"] == "3"
    assert stat_of(image, "/usr/share/vendor/hard1")["Links:"] == "1"
    assert stat_of(image, "/usr/share/vendor/link")["Type:"] == "directory"
    assert stat_of(image, "/opt/rich/pipe")["Type:"] == "FIFO"
    assert stat_of(image, "/usr/share/vendor")["Mode:"] == "0711"
    assert stat_of(image, "/usr/share/vendor/deep/file2")["Mode:"] == "0600"
    assert times_of(image, "/opt/rich/many") == {1_500_000_000}
    assert times_of(image, "/opt/rich/empty") == {JOB_EPOCH}
    assert times_of(image, "/opt") == times_of(installer.node.ext, "/opt")
    assert times_of(image, "/usr/share/vendor/deep/file1") == times_of(
        installer.node.ext, "/usr/share/vendor/deep/file1"
    )
    assert content_of(image, "/opt/rich/indirect") == b"x" * 1_500_000
    assert content_of(image, "/opt/rich/sparse") == bytes(3 << 20) + b"end\n"
    assert content_of(image, "/opt/rich/dev-disk-by\\x2duuid.mount") == b"unit\n"
    assert content_of(image, "/usr/share/respin/f.json") == b"{}\n"
    assert len(debugfs(image, 'ls -p "/opt/rich/many"').splitlines()) == 700 + 2 + 2
    database = installer.tmp / "db"
    database.mkdir()
    (database / "rpmdb.sqlite").write_bytes(content_of(image, "/var/lib/rpm/rpmdb.sqlite"))
    assert run("rpm", "-qa", "--define", f"_dbpath {database}", "--qf", "%{name}\\n").split() in (
        [b"vendor-tool", b"rich"],
        [b"rich", b"vendor-tool"],
    )
    assert installed.counters.blocks_read < installed.counters.blocks_total / 4
    assert len(installed.changed_blocks) <= installed.counters.blocks_written
    assert not list(installer.scratch.iterdir())


def test_same_bytes_twice(installer: Installer, rich: Path, tmp_path: Path, key_world: KeyWorld) -> None:
    first = installer.run([rich])
    other = tmp_path / "elsewhere and with a longer name"
    other.mkdir()
    second = Installer(other, installer.node, [key_world.public("rpm")]).run([rich])
    assert blocks(first) == blocks(second)
    assert first.delta == second.delta


def test_what_a_scriptlet_sees(installer: Installer, packages: Packages) -> None:
    script = """{
echo "release $(uname -r) $(uname -sr) $(uname --kernel-release)"
env | sort
cat /proc/net/dev
ls / /dev
echo "caps $(head -50 /proc/self/status | while read a b; do [ $a = CapEff: ] && echo $b; done)"
} >/report 2>&1
bash -c 'echo >/dev/tcp/127.0.0.1/22' 2>/dev/null && echo "net works" >>/report
echo 1 >/proc/sys/kernel/panic && echo "sysctl works" >>/report
ls /proc/1/root/home /proc/1/cwd/work 2>/dev/null && echo "host visible" >>/report
ls -l /proc/1/fd /proc/self/fd | while read -r a b c d e f g h i rest; do echo "fd $rest" >>/report; done
setsid sh -c 'sleep 1; echo late >/report-late' >/dev/null 2>&1 &
echo 'to the transcript \033[31m'
exit 0
"""
    rpm = packages.build("looker", sections=f"%post\n{script}")
    installed = installer.run([rpm])
    assert {entry.path for entry in installed.delta} == {"/report", "/var/lib/rpm/rpmdb.sqlite"}
    report = content_of(installer.write_image(installed), "/report").decode()
    lines = report.splitlines()
    assert f"release {KERNEL} Linux {KERNEL} {KERNEL}" in lines
    names = {line.split("=")[0] for line in lines if "=" in line}
    assert names <= {"HOME", "LC_ALL", "PATH", "PWD", "SHLVL", "SOURCE_DATE_EPOCH", "TZ", "_", "OLDPWD"}
    assert [line.split()[0] for line in lines if line.endswith(" 0") and ":" in line] == ["lo:"]
    assert "works" not in report
    assert "host visible" not in report
    assert "home" not in lines
    assert {"null", "tty", "urandom"} <= set(lines)
    assert "node.iso" not in report
    assert "socket:" not in report
    caps = int(next(line for line in lines if line.startswith("caps")).split()[1], 16)
    assert not caps >> CAPABILITIES["sys_admin"] & 1
    assert caps >> CAPABILITIES["chown"] & 1
    assert "to the transcript \\x1b[31m" in installed.transcript


FAILURES = {
    "failing-pre": ("%pre\necho some words; exit 3", BuildError, "scriptlet-failed", "%pre"),
    "failing-post": ("%post\nexit 3", BuildError, "scriptlet-failed", "%post"),
    "failing-posttrans": ("%posttrans\nexit 3", BuildError, "scriptlet-failed", "%posttrans"),
    "failing-lua": ("%post -p <lua>\nerror('x')", BuildError, "scriptlet-failed", "%post"),
    "failing-trigger": (
        "%triggerin -- vendor-tool\nexit 3", BuildError, "scriptlet-failed", "",
    ),
    "no-interpreter": ("%post -p /usr/bin/nothing\nx", BuildError, "scriptlet-failed", "%post"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_failing_scriptlet(name: str, installer: Installer, packages: Packages) -> None:
    sections, kind, finding, words = FAILURES[name]
    rpm = packages.build(name, sections=sections)
    with pytest.raises(kind) as caught:
        installer.run([rpm])
    assert caught.value.finding == finding
    assert words in caught.value.what
    assert not list(installer.scratch.iterdir())


def test_timeout(installer: Installer, packages: Packages) -> None:
    rpm = packages.build("sleeper", sections="%post\nsleep 100 & sleep 100")
    with pytest.raises(BuildError) as caught:
        installer.run([rpm], timeout=2)
    assert caught.value.finding == "timeout"


def _expect(installer: Installer, rpms: List[Path], kind: "type[RespinError]", finding: str) -> RespinError:
    def judge(delta: Delta) -> None:
        raise AssertionError("it must not come to judging")

    with pytest.raises(kind) as caught:
        installer.run(rpms, judge)
    assert caught.value.finding == finding, caught.value
    return caught.value


def test_missing_owner(installer: Installer, packages: Packages) -> None:
    rpm = packages.build(
        "owner", install="mkdir -p %{buildroot}/opt; echo >%{buildroot}/opt/o", files="%attr(-,ghost,root) /opt/o"
    )
    assert "ghost" in _expect(installer, [rpm], BuildError, "missing-owner").what


def test_conflicts(installer: Installer, packages: Packages) -> None:
    one, two = (
        packages.build(
            f"conflict-{n}", install=f"d=%{{buildroot}}/opt; mkdir -p $d; echo {n} >$d/c", files="/opt/c"
        )
        for n in "ab"
    )  # fmt: skip
    assert "/opt/c" in _expect(installer, [one, two], PolicyError, "file-conflict").what
    vendor = packages.build(
        "conflict-vendor",
        install="d=%{buildroot}/usr/share/vendor; mkdir -p $d; echo mine >$d/owned",
        files="/usr/share/vendor/owned",
    )
    assert "vendor-tool" in _expect(installer, [vendor], PolicyError, "file-conflict").what


def test_already_installed(installer: Installer, packages: Packages) -> None:
    _expect(installer, [packages.build("vendor-tool")], PolicyError, "already-installed")
    hiding = packages.build("obsoleting", preamble="Obsoletes: vendor-tool < 2")
    _expect(installer, [hiding], PolicyError, "obsoletes-vendor-package")
    harmless = packages.build("harmless", preamble="Obsoletes: vendor-tool < 0.5\nRequires: nothing-has-this")
    assert [e.path for e in installer.run([harmless]).delta] == ["/var/lib/rpm/rpmdb.sqlite"]


def test_signatures(installer: Installer, packages: Packages, key_world: KeyWorld, tmp_path: Path) -> None:
    unsigned = key_world.build_rpm(tmp_path, "unsigned")
    _expect(installer, [unsigned], VerificationError, "rpm-refused")
    foreign = key_world.sign_rpm(key_world.build_rpm(tmp_path, "foreign"), "unknown")
    _expect(installer, [foreign], VerificationError, "rpm-refused")
    torn = tmp_path / "torn.rpm"
    good = key_world.sign_rpm(key_world.build_rpm(tmp_path, "torn")).read_bytes()
    torn.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    _expect(installer, [torn], VerificationError, "rpm-refused")


def test_refused_by_judge(installer: Installer, rich: Path) -> None:
    def judge(delta: Delta) -> None:
        raise PolicyError("no", finding="protected-path")

    with pytest.raises(PolicyError) as caught:
        installer.run([rich], judge)
    assert caught.value.finding == "protected-path"
    assert not list(installer.scratch.iterdir())


def test_derived_state(installer: Installer, packages: Packages, tmp_path: Path) -> None:
    module = make_module(tmp_path / "plugin.ko", "plugin")
    library = Path(os.path.realpath("/lib/x86_64-linux-gnu/libz.so.1"))
    if not library.exists():
        pytest.skip("needs some shared library")
    rpm = packages.build(
        "driver",
        install=f"""cd %{{buildroot}}; mkdir -p usr/lib/modules/{KERNEL}/extra usr/local/lib
cp {module} usr/lib/modules/{KERNEL}/extra/; cp {library} usr/local/lib/libplugin.so.1""",
        files=f"/usr/lib/modules/{KERNEL}/extra\n/usr/local/lib/libplugin.so.1",
    )
    installed = installer.run([rpm])
    assert installed.regenerated == (f"depmod {KERNEL}", "ldconfig")
    image = installer.write_image(installed)
    fsck_clean(image)
    assert b"extra/plugin.ko" in content_of(image, f"/usr/lib/modules/{KERNEL}/modules.dep")
    assert b"kernel/vendor.ko" in content_of(image, f"/usr/lib/modules/{KERNEL}/modules.dep")
    assert b"/usr/local/lib/libz.so.1" in content_of(image, "/etc/ld.so.cache")
    assert not [entry for entry in installed.delta if "aux-cache" in entry.path]


def _variant(tmp_path: Path, root: Path, change: Callable[[Path], None]) -> Path:
    copy = tmp_path / "changed-root"
    shutil.copytree(root, copy, symlinks=True)
    change(copy)
    return copy


def test_another_database_directory(installer: Installer, rich: Path) -> None:
    with pytest.raises(UnsupportedError, match="no rpm database"):
        installer.run([rich], dbpath="/usr/lib/sysimage/rpm")


@pytest.mark.parametrize(
    ("fs", "options"),
    [
        ("ext4", ()),
        ("ext2", ("-b", "1024", "-I", "128")),
        ("ext4", ("-b", "4096", "-O", "metadata_csum,64bit,inline_data")),
    ],
)
def test_kinds_of_ext(
    fs: str, options: "tuple[str, ...]", tmp_path: Path, root: Path, rich: Path, packages: Packages, key_world: KeyWorld
) -> None:
    def grow(copy: Path) -> None:
        for number in range(400):
            (copy / f"usr/share/vendor/deep/a long name that makes an index necessary {number}").touch()

    (tmp_path / "n").mkdir()
    node = pack(tmp_path / "n", _variant(tmp_path, root, grow), fs=fs, options=options)
    run("e2fsck", "-fyD", node.ext)  # builds the index
    node = wrap(tmp_path / "n", build_squashfs(node.squashfs, node.ext.parent.parent), node.ext)
    fsck_clean(node.ext)
    script = "for i in $(seq 300); do echo $i >/usr/share/vendor/deep/another_rather_long_name_$i; done"
    extra = packages.out / "extra.rpm"
    if not extra.exists():
        packages.build("extra", sections=f"%post\n{script}")
    installer = Installer(tmp_path, node, [key_world.public("rpm")])
    installed = installer.run([rich, extra])
    image = installer.write_image(installed)
    fsck_clean(image)
    # debugfs shows all 60 bytes of content that lies in an inode
    assert content_of(image, "/usr/share/vendor/deep/another_rather_long_name_300").rstrip(b"\0") == b"300\n"


def test_no_room(tmp_path: Path, root: Path, packages: Packages, key_world: KeyWorld) -> None:
    (tmp_path / "n").mkdir()
    node = pack(tmp_path / "n", root, size_mib=32)
    installer = Installer(tmp_path, node, [key_world.public("rpm")])
    rpm = packages.build("huge", sections="%post\nhead -c 40000000 /dev/urandom >/opt/huge")
    with pytest.raises(BuildError) as caught:
        installer.run([rpm], may_grow=False)
    assert caught.value.finding == "no-space-in-root"
    many = packages.build("many", sections="%post\nfor i in $(seq 20000); do : >/opt/f$i; done")
    with pytest.raises(BuildError) as caught:
        installer.run([many], may_grow=False)
    assert caught.value.finding == "no-space-in-root"
    assert "inodes" in caught.value.what


def test_names_that_debugfs_cannot_take(installer: Installer, packages: Packages) -> None:
    rpm = packages.build("odd", sections="""%post\n: >'/opt/with "quotes"'""")
    with pytest.raises(UnsupportedError) as caught:
        installer.run([rpm])
    assert caught.value.finding == "unwritable-name"
    fine = packages.build("fine", sections="%post\n: >'/opt/ <8> $x *'; : >\"/opt/$(printf '\\303\\244\\377')\"")
    installed = installer.run([fine])
    fsck_clean(installer.write_image(installed))
    assert {e.path for e in installed.delta.added} == {"/opt/ <8> $x *", "/opt/ä\udcff"}


def test_files_below_private_directories(installer: Installer, packages: Packages) -> None:
    rpm = packages.build(
        "procfile", install="mkdir -p %{buildroot}/proc/x; echo >%{buildroot}/proc/x/evil", files="/proc/x/evil"
    )
    with pytest.raises(BuildError):
        installer.run([rpm])


def test_damaged_image(tmp_path: Path, node: NodeImage, rich: Path, key_world: KeyWorld) -> None:
    """Bytes flipped anywhere in the squashfs: refused in the reader's words, or not needed."""
    outcomes: List[RespinError] = []
    for number in range(1, 6):
        (tmp_path / str(number)).mkdir()
        iso = tmp_path / str(number) / "damaged.iso"
        data = bytearray(node.iso.read_bytes())
        place = OFFSET + 100 + number * (node.squashfs_size - 200) // 6
        data[place : place + 64] = bytes(64)
        iso.write_bytes(data)
        damaged = NodeImage(iso, node.squashfs, node.ext, node.squashfs_size)
        try:
            Installer(tmp_path / str(number), damaged, [key_world.public("rpm")]).run([rich])
        except RespinError as error:
            outcomes.append(error)
    assert outcomes
    assert [str(e) for e in outcomes if e.exit_code != 3 or e.finding in ("sandbox-failed", "cannot-mount-root")] == []


def test_dirty_image(tmp_path: Path, node: NodeImage, rich: Path, key_world: KeyWorld) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(node.ext.parent.parent, tree)
    ext = tree / "LiveOS/ext3fs.img"
    debugfs(ext, "ssv state 2")
    dirty = wrap(tmp_path, build_squashfs(tmp_path / "s.img", tree), ext)
    installer = Installer(tmp_path, dirty, [key_world.public("rpm")])
    _expect(installer, [rich], UnsupportedError, "dirty-root")


def test_removed_kind_is_reported(installer: Installer, rich: Path) -> None:
    delta = installer.run([rich]).delta
    entry = delta.get("/usr/share/vendor/link")
    assert entry is not None
    assert entry.change is Change.CHANGED
    assert entry.old is not None
    assert (entry.old.kind, entry.old.target, entry.kind) == (Kind.SYMLINK, "deep/file1", Kind.DIRECTORY)
    assert Delta.from_json(delta.to_json()) == delta


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev/fuse takes root")
@pytest.mark.parametrize("kind", ["ext3", "ext4"])
def test_without_fuse_the_same_blocks_come_out(
    root: Path, rich: Path, key_world: KeyWorld, tmp_path: Path, kind: str
) -> None:
    """Also of a vendor root with capabilities, labels, sparse and special files, some of which a scriptlet touches."""
    node = pack(tmp_path, root, fs=kind, options=("-O", "inline_data", "-I", "256") if kind == "ext4" else ())
    (tmp_path / "value").write_bytes(struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    sparse = tmp_path / "sparse"
    sparse.write_bytes(b"first")
    os.truncate(sparse, 300 << 20)
    debugfs(
        node.ext,
        *("cd /usr/share/vendor", f"write {sparse} sparse", "mknod pipe p", "cd /dev", "mknod console c 5 1"),
        f"ea_set -f {tmp_path / 'value'} /usr/share/vendor/deep/file1 security.capability",
        "ea_set /usr/share/vendor/deep/file7 security.selinux system_u:object_r:usr_t:s0",
        "ea_set /usr/share/vendor/deep/file3 user.note vendor",
        "sif /usr/share/vendor/deep/file4 uid 990",
        "sif /usr/share/vendor/deep/file4 mode 0104755",
        "sif /usr/share/vendor/deep/file5 mtime @4000000000",
    )
    tree = node.ext.parents[1]
    node = wrap(tmp_path, build_squashfs(tmp_path / "again.img", tree), node.ext)
    served, unpacked = tmp_path / "served", tmp_path / "unpacked"

    def outcome(directory: Path) -> bytes:
        directory.mkdir()
        done = Installer(directory, node, [key_world.public("rpm")]).run([rich])
        found = {str(number): hashlib.sha256(data).hexdigest() for number, data in sorted(blocks(done).items())}
        return json.dumps([found, done.image_size, done.delta.to_json()], sort_keys=True).encode()

    assert run_without_fuse(lambda: outcome(unpacked)) == outcome(served)


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding /dev/fuse takes root")
@pytest.mark.parametrize(
    ("commands", "says"),
    [
        (("cd /usr/share/vendor", "mknod device c 5 1"), "a device outside of /dev"),
        (("ea_set /usr/share/vendor/deep/file3 trusted.note vendor",), "trusted.note"),
    ],
)
def test_without_fuse_what_cannot_be_shown_is_refused(
    root: Path, rich: Path, key_world: KeyWorld, tmp_path: Path, commands: Tuple[str, ...], says: str
) -> None:
    node = pack(tmp_path, root)
    debugfs(node.ext, *commands)
    node = wrap(tmp_path, build_squashfs(tmp_path / "again.img", node.ext.parents[1]), node.ext)
    (tmp_path / "run").mkdir()

    def outcome() -> bytes:
        try:
            Installer(tmp_path / "run", node, [key_world.public("rpm")]).run([rich])
        except MissingToolError as error:
            return f"{error.finding}: {error.what}".encode()
        return b"done"

    said = run_without_fuse(outcome).decode()
    assert said.startswith("no-fuse: without FUSE")
    assert says in said
