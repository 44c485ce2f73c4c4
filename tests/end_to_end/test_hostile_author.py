"""The ISO's author is hostile, and has a key that the verifier trusts for respins.

Digest, media check, restore map and signature are all made right again after each change, so only the account of every
byte and of every path can tell. Verification gets the trust store and the one file.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from tests.end_to_end.conftest import Respun
from tests.support import rawiso
from tests.support.attacker import MEDIA, Forgery, evil_build, evil_statement_build
from tests.support.forge import Done, Forge, respin
from tests.support.images import run

B = 2048


@pytest.fixture
def forgery(respun: Respun, forge: Forge, tmp_path: Path) -> Forgery:
    """A copy to change."""
    return Forgery(respun.iso, tmp_path / "forged.iso", forge.keys)


def finding(done: Done) -> str:
    """The finding of a refusal."""
    assert done.code in (3, 4), f"{done.code}: {done.out} {done.err}"
    return str(done.json["error"]["finding"])


def test_a_forgery_without_a_change_is_accepted(forge: Forge, forgery: Forgery) -> None:
    """The attacker's tools work: otherwise the tests below would prove nothing."""
    done = forge.verify(forgery.finish(), base=None)
    assert done.code == 0, done.err
    assert done.json["complete"] is True


@pytest.mark.parametrize(
    ("what", "offset"),
    [("MBR boot code", 100), ("MBR partition table", 446 + 9), ("system area", 12 * B), ("GPT header", 512 + 60)],
)
def test_a_patched_system_area(forge: Forge, forgery: Forgery, what: str, offset: int) -> None:
    forgery.change(offset, bytes([forgery.data[offset] ^ 1]))
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors", what


@pytest.mark.parametrize(
    ("path", "distance"),
    [
        ("/isolinux/isolinux.cfg", 30),
        ("/isolinux/boot.cat", 33),
        ("/isolinux/efiboot.img", 70_000),
        ("/EFI/BOOT/grub.cfg", 5),
    ],
)
def test_another_boot_file_while_the_stock_one_is_carried_as_a_blob(
    forge: Forge, forgery: Forgery, path: str, distance: int
) -> None:
    offset = forgery.place(path)[0] + distance
    forgery.change(offset, bytes([forgery.data[offset] ^ 1]))
    assert finding(forge.verify(forgery.finish(), base=None)) in ("not-the-vendors", "protected-set")


def test_bytes_in_a_gap_between_files(forge: Forge, forgery: Forgery) -> None:
    offset, size = forgery.place("/isolinux/isolinux.cfg")
    gap = offset + size
    assert size % B, "there must be a gap behind the file"
    forgery.change(gap, b"hidden")
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors"


def test_bytes_in_the_padding_behind_the_root_image(forge: Forge, forgery: Forgery) -> None:
    offset, size = forgery.place("/LiveOS/squashfs.img")
    end = offset + -(-size // B) * B
    following = min(r.extent * B for r in rawiso.records(bytes(forgery.data), False) if r.extent * B >= end)
    if following == end:
        pytest.skip("the next file follows at once")
    forgery.change(following - B, b"hidden")
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors"


def test_bytes_appended_to_the_iso(forge: Forge, forgery: Forgery) -> None:
    forgery.data += b"another partition".ljust(1 << 20, b"\0")
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors"


def test_bytes_appended_to_the_iso_and_left_out_of_its_size(forge: Forge, forgery: Forgery) -> None:
    """They are not claimed, nothing in the ISO speaks of them, and the verdict says that they are there."""
    size = len(forgery.data)
    forgery.data += b"another partition".ljust(1 << 20, b"\0")
    done = forge.verify(forgery.finish(size=size), base=None)
    assert (done.code, done.json["complete"]) == (0, False)
    assert done.json["carrier"]["first_data"] == size


def test_an_iso_said_to_be_shorter_than_it_is(forge: Forge, forgery: Forgery) -> None:
    done = forge.verify(forgery.finish(size=len(forgery.data) - 2048), base=None)
    assert finding(done) == "bad-restore-map"


def test_a_directory_record_in_one_tree_only(forge: Forge, forgery: Forgery) -> None:
    record = next(r for r in rawiso.records(bytes(forgery.data), True) if r.path.endswith("isolinux.cfg"))
    target = next(r for r in rawiso.records(bytes(forgery.data), True) if r.path.endswith("grub.cfg"))
    forgery.change(record.offset + 2, struct.pack("<L", target.extent) + struct.pack(">L", target.extent))
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors"


def _add_record(forgery: Forgery, joliet: bool, extent: int, size: int) -> None:
    """A further file in the root directory, in the room that its last sector has left."""
    root = next(r for r in rawiso.records(bytes(forgery.data), joliet) if r.path.rstrip(";1").endswith("respin.sig"))
    record = bytearray(forgery.data[root.offset : root.offset + forgery.data[root.offset]])
    name = "ZZZ.SIG;1".encode("utf-16-be" if joliet else "ascii")
    record = record[:32] + bytes([len(name)]) + name + bytes(1 - len(name) % 2)
    record[0] = len(record)
    record[2:18] = (
        struct.pack("<L", extent) + struct.pack(">L", extent) + struct.pack("<L", size) + struct.pack(">L", size)
    )
    at = root.offset // B * B
    while forgery.data[at]:
        at += forgery.data[at]
    assert at % B + len(record) <= B, "there is no room in the directory"
    forgery.data[at : at + len(record)] = record


@pytest.mark.parametrize(
    "trees", [(False, True), (False,), (True,)], ids=["both trees", "ISO 9660 only", "Joliet only"]
)
def test_a_file_more_in_the_iso(forge: Forge, forgery: Forgery, trees: Tuple[bool, ...]) -> None:
    extent = forgery.place("/isolinux/isolinux.cfg")[0] // B
    for joliet in trees:
        _add_record(forgery, joliet, extent, 100)
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors"


def test_an_efi_partition_appended(forge: Forge, forgery: Forgery) -> None:
    """Behind the ISO, with an entry in the boot record, which the signed statement speaks of."""
    size = len(forgery.data)
    offset, length = forgery.place("/isolinux/efiboot.img")
    forgery.data += forgery.data[offset : offset + length]
    entry = struct.pack("<B3sB3sLL", 0, b"\xfe\xff\xff", 0xEF, b"\xfe\xff\xff", size // 512, length // 512)
    forgery.change(446 + 32, entry)
    assert finding(forge.verify(forgery.finish(), base=None)) == "not-the-vendors"
    assert finding(forge.verify(forgery.finish(size=size), base=None)) == "not-the-vendors"


def test_signatures_swapped_between_two_isos(forge: Forge, forgery: Forgery, respun: Respun, tmp_path: Path) -> None:
    """Both statements are signed by the trusted key, each ISO carries the signature of the other."""
    other = Forgery(respun.iso, tmp_path / "other.iso", forge.keys)
    gap = sum(other.place("/isolinux/isolinux.cfg"))
    other.change(gap, b"other")
    other.finish()
    forgery.finish()
    mine, theirs = forgery.read("/respin.sig"), other.read("/respin.sig")
    forgery.write("/respin.sig", theirs)
    other.write("/respin.sig", mine)
    for swapped in (forgery, other):
        swapped.path.write_bytes(swapped.data)
        assert finding(forge.verify(swapped.path, base=None)) == "badsig"


def test_the_statement_of_another_iso(forge: Forge, forgery: Forgery) -> None:
    """Statement and signature are a pair, and speak of other bytes."""
    gap = sum(forgery.place("/isolinux/isolinux.cfg"))
    forgery.data[gap : gap + 5] = b"other"
    forgery.path.write_bytes(forgery.data)
    assert finding(forge.verify(forgery.path, base=None)) == "subject-digest"


def test_the_slot_moved(forge: Forge, forgery: Forgery) -> None:
    """Into a place inside of the covered bytes, in both trees."""
    for joliet in (False, True):
        record = next(
            r for r in rawiso.records(bytes(forgery.data), joliet) if r.path.rstrip(";1").endswith("respin.sig")
        )
        moved = record.extent - 4
        forgery.data[record.offset + 2 : record.offset + 10] = struct.pack("<L", moved) + struct.pack(">L", moved)
    assert finding(forge.verify(forgery.finish(), base=None)) in ("bad-slot", "not-the-vendors")


@pytest.mark.parametrize("target", ["/respin.sig", "/respin.json", "/respin.restore", "/respin.evidence", "media"])
@pytest.mark.parametrize("distance", [0, -7], ids=["inside", "overlapping"])
def test_a_restore_map_that_reads_what_is_not_the_vendors(
    forge: Forge, forgery: Forgery, target: str, distance: int
) -> None:
    offset = distance + (MEDIA[0] if target == "media" else forgery.place(target)[0])
    document, originals = forgery.restore_map()
    gap = document["copies"][0][2] if document["copies"][0][0] == 0 else 0
    document["copies"].insert(1 if gap else 0, [gap, offset, 8])
    forgery.set_restore_map(document, originals[8:])
    assert finding(forge.verify(forgery.finish(), base=None)) == "bad-restore-map"


def test_a_restore_map_with_overlapping_copies(forge: Forge, forgery: Forgery) -> None:
    document, originals = forgery.restore_map()
    base, source, length = document["copies"][1]
    document["copies"].insert(1, [base, source, min(length, 64)])
    forgery.set_restore_map(document, originals)
    assert finding(forge.verify(forgery.finish(), base=None)) == "bad-restore-map"


@pytest.mark.parametrize("given", [False, True], ids=["from the ISO alone", "the vendor's ISO at hand"])
def test_another_vendor_iso_behind_the_map(forge: Forge, forgery: Forgery, given: bool) -> None:
    """The map brings back something consistent that the vendor never signed; refused also where nobody needs it."""
    document, originals = forgery.restore_map()
    changed = bytes([originals[0] ^ 1]) + originals[1:]
    forgery.set_restore_map(document, changed)
    done = forge.verify(forgery.finish(), **({} if given else {"base": None}))
    assert finding(done) == "restore-digest"


@pytest.mark.parametrize(
    ("key", "expected"), [("plugin", "nokey"), ("base", "nokey"), ("unknown", "nokey"), ("expired", "nokey")]
)
def test_signed_by_a_key_of_another_role(forge: Forge, forgery: Forgery, key: str, expected: str) -> None:
    assert finding(forge.verify(forgery.finish(key), base=None)) == expected


@pytest.mark.parametrize(("key", "expected"), [("expired", "expkey"), ("revoked", "revkey"), ("weak", "weak")])
def test_signed_by_a_key_that_no_longer_counts(
    forge: Forge, forgery: Forgery, tmp_path: Path, key: str, expected: str
) -> None:
    roles = {**{role: [role] for role in ("base", "plugin", "rpm", "respin")}, key: ["respin"]}
    store = forge.keys.make_store(tmp_path / "trust", roles)
    assert finding(forge.verify(forgery.finish(key), base=None, trust=store)) == expected


def test_a_second_statement_in_the_slot(forge: Forge, forgery: Forgery) -> None:
    forgery.finish()
    slot = forgery.read("/respin.sig").rstrip(b"\0")
    forgery.write("/respin.sig", slot + slot)
    forgery.path.write_bytes(forgery.data)
    assert finding(forge.verify(forgery.path, base=None)) == "bad-slot"


@pytest.mark.parametrize(
    "member", ["1/manifest.json", "1/manifest.json.asc", "1/rpms/1.header", "1/rpms/1.header.1.sig", "CHECKSUM"]
)
def test_evidence_that_nobody_signed(forge: Forge, forgery: Forgery, member: str) -> None:
    """One byte of what others signed; the archive itself stays canonical."""
    data = bytearray(forgery.read("/respin.evidence"))
    at = 0
    while data[at : at + 100].rstrip(b"\0").decode() != member:
        at += 512 + -(-int(data[at + 124 : at + 135], 8) // 512) * 512
    size = int(data[at + 124 : at + 135], 8)
    spot = at + 512 + (size // 2 if member != "CHECKSUM" else bytes(data[at + 512 :]).index(b") = ") + 5)
    data[spot] ^= 1
    forgery.write("/respin.evidence", bytes(data))
    assert forge.verify(forgery.finish(), base=None).code == 3


def test_a_statement_that_names_another_base(forge: Forge, forgery: Forgery) -> None:
    statement = json.loads(forgery.read("/respin.json"))
    statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["sha256"] = "0" * 64
    forgery.write("/respin.json", json.dumps(statement, sort_keys=True, separators=(",", ":")).encode())
    assert finding(forge.verify(forgery.finish(), base=None)) == "base-digest"


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["set_inode_field /usr/share/good/data mode 0104755"], "content"),
        (["set_inode_field /usr/share/good/data uid 990"], "content"),
        (["set_inode_field /usr/libexec/good/tool gid 990"], "content"),
        (["ea_set /usr/libexec/good/tool security.capability 0123456789abcdefghij"], "content"),
        (["ea_set /usr/share/good/data security.selinux system_u:object_r:bin_t:s0"], "selinux-label"),
        (["ea_set /usr/share/good/data user.note hidden"], "content"),
        (["set_inode_field /usr/sbin/persist mode 0104755"], "protected-"),
        (["rm /usr/libexec/example-node/installer"], "protected-"),
        (["symlink /usr/bin/backdoor /usr/share/good/data"], "undeclared-effect"),
        (["rm /etc/default/version"], "vendor-path-changed"),
        (["mkdir /opt/hidden"], "undeclared-effect"),
        (["set_inode_field /usr/share/good/data mtime 20200101000000"], "content"),
        (["cd /dev", "mknod mem2 c 1 1"], "undeclared-effect"),
        (["set_inode_field /etc/default flags 0x1000"], "not-as-the-kernel"),
    ],
    ids=lambda value: value[0][:60] if isinstance(value, list) else value,
)
def test_the_root_changed_behind_the_plugins_back(
    forge: Forge,
    good_plugin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: List[str],
    expected: str,
) -> None:
    output = evil_build(forge, good_plugin, tmp_path / "evil.iso", commands, monkeypatch)
    done = forge.verify(output, base=None)
    assert done.code in (3, 4), done.out
    error = done.json["error"]
    assert expected in " ".join([error["finding"], *error["also"]]), error


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("/etc/passwd", b"evil:x:0:0::/:/bin/sh\n", "user-database"),
        ("/etc/shadow", b"good2:$6$abc:1::::::\n", "user-database"),
    ],
)
def test_a_line_more_in_the_user_database(
    forge: Forge,
    good_plugin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    line: bytes,
    expected: str,
) -> None:
    new = tmp_path / "new"

    def prepare(image: Path) -> None:
        subprocess.run(["debugfs", "-R", f"dump {path} {new}", image], check=True, capture_output=True)
        new.write_bytes(new.read_bytes() + line)

    commands = [
        f"rm {path}",
        f"write {new} {path}",
        f"set_inode_field {path} mode {'0100644' if 'passwd' in path else '0100640'}",
    ]
    if "shadow" in path:
        commands.append(f"set_inode_field {path} gid 42")
    output = evil_build(forge, good_plugin, tmp_path / "evil.iso", commands, monkeypatch, prepare=prepare)
    done = forge.verify(output, base=None)
    assert done.code == 4, done.out
    error = done.json["error"]
    assert expected in " ".join([error["finding"], *error["also"]]), error


@pytest.mark.parametrize("command", ["freeb {block}", "freei /usr/bin/bash", "set_inode_field /usr links_count 2"])
def test_a_file_system_that_forgets_what_is_in_use(
    forge: Forge, good_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """No byte of a vendor's file differs, until a kernel that writes beside the image gives its block to another."""
    commands: List[str] = []

    def prepare(image: Path) -> None:
        blocks = run("debugfs", "-R", "blocks /usr/bin/bash", image).split()
        commands.append(command.format(block=int(blocks[0])))

    output = evil_build(forge, good_plugin, tmp_path / "evil.iso", commands, monkeypatch, prepare=prepare)
    done = forge.verify(output, base=None)
    assert done.code == 3, done.out
    assert finding(done) == "not-consistent"


def test_a_replaced_list_of_kernel_modules(
    forge: Forge, good_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's module would pull in another one."""
    release = respin("inspect", forge.iso, "--json").json["node"]["kernels"][0]
    path, new = f"/usr/lib/modules/{release}/modules.dep", tmp_path / "new"

    def prepare(image: Path) -> None:
        subprocess.run(["debugfs", "-R", f"dump {path} {new}", image], check=True, capture_output=True)
        lines = new.read_text().splitlines()
        assert len(lines) > 1
        new.write_text("\n".join([lines[0] + " " + lines[1].partition(":")[0], *lines[1:]]) + "\n")

    commands = [f"rm {path}", f"write {new} {path}", f"set_inode_field {path} mode 0100644"]
    output = evil_build(forge, good_plugin, tmp_path / "evil.iso", commands, monkeypatch, prepare=prepare)
    done = forge.verify(output, base=None)
    assert done.code == 4, done.out
    error = done.json["error"]
    assert {error["finding"], *(one.rpartition("[")[2].rstrip("]") for one in error["also"])} & {
        "modules",
        "vendor-path-changed",
    }, error


@pytest.mark.parametrize("name", ["modules.alias.bin", "modules.dep.bin", "modules.softdep"])
def test_a_replaced_index_of_kernel_modules(
    forge: Forge, good_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """modprobe reads these, and not the list: one entry of the vendor's leads elsewhere, or there is one more."""
    release = respin("inspect", forge.iso, "--json").json["node"]["kernels"][0]
    path, new = f"/usr/lib/modules/{release}/{name}", tmp_path / "new"

    def prepare(image: Path) -> None:
        subprocess.run(["debugfs", "-R", f"dump {path} {new}", image], check=True, capture_output=True)
        data = new.read_bytes()
        if name.endswith(".bin"):
            at = data.index(b"virtio_" if b"virtio_" in data else b"kernel/")
            new.write_bytes(data[:at] + data[at : at + 4].swapcase() + data[at + 4 :])
        else:
            new.write_bytes(data + b"softdep ext4 pre: good\n")

    commands = [f"rm {path}", f"write {new} {path}", f"set_inode_field {path} mode 0100644"]
    output = evil_build(forge, good_plugin, tmp_path / "evil.iso", commands, monkeypatch, prepare=prepare)
    done = forge.verify(output, base=None)
    assert done.code == 4, done.out
    error = done.json["error"]
    assert "modules" in {error["finding"], *(one.rpartition("[")[2].rstrip("]") for one in error["also"])}, error


def test_a_package_more_in_the_rpm_database(
    forge: Forge, good_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = forge.rpm("phantom")
    database = tmp_path / "db"
    database.mkdir()

    def prepare(image: Path) -> None:
        dump = f"dump /var/lib/rpm/rpmdb.sqlite {database}/rpmdb.sqlite"
        subprocess.run(["debugfs", "-R", dump, image], check=True, capture_output=True)
        command = [
            "rpm",
            "--dbpath",
            str(database),
            "--justdb",
            "--nodeps",
            "--ignoreos",
            "--nosignature",
            "-i",
            str(extra),
        ]
        subprocess.run(command, check=True, capture_output=True)
        with contextlib.closing(sqlite3.connect(database / "rpmdb.sqlite")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    commands = [
        "rm /var/lib/rpm/rpmdb.sqlite",
        f"write {database}/rpmdb.sqlite /var/lib/rpm/rpmdb.sqlite",
        "set_inode_field /var/lib/rpm/rpmdb.sqlite mode 0100644",
    ]
    output = evil_build(forge, good_plugin, tmp_path / "evil.iso", commands, monkeypatch, prepare=prepare)
    done = forge.verify(output, base=None)
    assert done.code == 4, done.out
    error = done.json["error"]
    assert "rpm-database" in " ".join([error["finding"], *error["also"]]), error


def lie(of_plugin: "dict[str, str]", of_package: "dict[str, str]") -> Callable[[Dict[str, Any]], None]:
    """What changes annotations in a statement; ``uri`` and ``name`` are the resource's own."""

    def change(statement: Dict[str, Any]) -> None:
        for one in statement["predicate"]["buildDefinition"]["resolvedDependencies"]:
            notes = {"plugin": of_plugin, "package": of_package}.get(one["annotations"]["respin_role"], {})
            for key, value in notes.items():
                (one if key in ("uri", "name") else one["annotations"])[key] = value

    return change


def twice(statement: Dict[str, Any]) -> None:
    definition = statement["predicate"]["buildDefinition"]
    definition["resolvedDependencies"].insert(1, definition["resolvedDependencies"][1])
    definition["externalParameters"]["plugins"] *= 2


@pytest.mark.parametrize(
    "change",
    [
        lie({}, {"uri": "pkg:rpm/redhat/openssl@3.0-1"}),
        lie({}, {"respin_bundle": "other-9-9.noarch.plugin.tar"}),
        lie({"respin_more": "reviewed"}, {}),
        twice,
        lambda statement: statement["predicate"]["buildDefinition"]["externalParameters"]["plugins"].clear(),
        lambda statement: statement["predicate"]["buildDefinition"]["externalParameters"]["base"].update(name="other"),
    ],
    ids=["purl", "bundle", "another note", "plugin twice", "parameters", "base"],
)
def test_a_statement_that_tells_stories_of_its_plugins(
    forge: Forge, good_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]
) -> None:
    output = evil_statement_build(forge, good_plugin, tmp_path / "out.iso", change, monkeypatch)
    assert finding(forge.verify(output, base=None)) in ("evidence", "malformed", "bad-statement")


def test_who_signed_is_told_by_the_verifiers_own_trust_store(
    forge: Forge, good_plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = lie({"respin_tier": "vendor\npassed  reviewed", "respin_signer": "0" * 40}, {"respin_signer": "1" * 40})
    output = evil_statement_build(forge, good_plugin, tmp_path / "out.iso", story, monkeypatch)
    report = forge.verify(output, base=None).json
    assert {(one["signer"], one["tier"]) for one in report["plugins"]} == {
        (forge.keys.fingerprints["plugin"], "partner")
    }
    assert {one["signer"] for one in report["packages"]} == {forge.keys.fingerprints["rpm"]}
    assert "reviewed" not in respin("verify", output, "--trust", forge.keys.trust).out
