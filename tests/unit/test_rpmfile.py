"""RPM headers: compared with what rpm says of the same files, and broken in every way the format allows."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Callable, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin.byteview import BytesView
from respin.errors import MalformedError, RespinError, UnsupportedError
from respin.formats.rpmfile import Dependency, Header, RpmFile
from respin.formats.rpmfile import tags as tag_numbers
from tests.support import rpmsurgery as surgery
from tests.support.keys import KeyWorld
from tests.support.rpmsurgery import Entry

SECTIONS = """
%pre
echo pre
%post -p /sbin/ldconfig
%preun -p <lua>
print("preun")
%postun -p /bin/bash
echo postun $1
%pretrans -p <lua>
print("pretrans")
%posttrans
echo posttrans
%verifyscript
echo verify
%triggerin -- other > 2
echo triggerin
%triggerun -p /bin/bash -- other, third
echo triggerun
%triggerpostun -- other
echo triggerpostun
%filetriggerin -- /usr/lib/modules
echo filetriggerin
%transfiletriggerpostun -p <lua> -- /usr/lib
print("transfiletriggerpostun")
"""
PREAMBLE = """Epoch: 3
Vendor: Example IHV
Requires: other >= 1:2.0, third
Requires(pre): /usr/sbin/useradd
Provides: kmod(exnic.ko) = 1.2
Conflicts: bad < 2
Obsoletes: older <= 1
"""
FILES = {
    "/etc/rich.conf": "key = value\n",
    "/usr/lib/rich/tool": "#!/bin/sh\n",
    "/usr/share/rich/\u00fcmlaut file": "x\n",
}


@pytest.fixture(scope="module")
def rich(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return key_world.build_rpm(
        tmp_path_factory.mktemp("rich"), "rich", version="1.2~rc1", release="3.el9", files=FILES,
        preamble=PREAMBLE, sections=SECTIONS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def parsed(rich: Path) -> RpmFile:
    return RpmFile.parse(BytesView(rich.read_bytes(), str(rich)))


def query(path: Path, query_format: str) -> List[str]:
    done = subprocess.run(
        ["rpm", "-qp", "--nosignature", "--qf", query_format, str(path)], capture_output=True, check=True
    )
    return done.stdout.decode().splitlines()


def test_identity_is_what_rpm_says(parsed: RpmFile, rich: Path) -> None:
    header = parsed.header
    wanted = "%{NAME}|%{EPOCH}|%{VERSION}|%{RELEASE}|%{ARCH}|%{OS}|%{SUMMARY}|%{VENDOR}|%{LICENSE}|"
    (said,) = query(rich, wanted + "%{SOURCERPM}|%{PAYLOADDIGEST}|%{PAYLOADDIGESTALGO}\\n")
    ours = [
        header.name, header.epoch, header.version, header.release, header.arch, header.os, header.summary,
        header.vendor, header.license, header.sourcerpm, header.payload_digest, 8,
    ]  # fmt: skip
    assert said == "|".join(map(str, ours))
    assert header.payload_digest_algorithm == "sha256"
    assert header.nevra == query(rich, "%{NEVRA}\\n")[0] == "rich-3:1.2~rc1-3.el9.noarch"
    assert (header.format, header.is_source) == (4, False)


def test_files_are_what_rpm_says(parsed: RpmFile, rich: Path) -> None:
    wanted = "%{FILENAMES}|%{FILEMODES}|%{FILEUSERNAME}|%{FILEGROUPNAME}|%{FILEMTIMES}|%{FILESIZES}|%{FILEDIGESTS}"
    said = query(rich, f"[{wanted}|%{{FILELINKTOS}}|%{{FILEFLAGS}}|%{{FILEINODES}}\\n]")
    ours = [
        "|".join(map(str, (
            file.path, file.mode, file.user, file.group, file.mtime, file.size, file.digest, file.linkto, file.flags,
            file.inode,
        )))
        for file in parsed.header.files
    ]  # fmt: skip
    assert ours == said
    assert sorted(file.path for file in parsed.header.files) == sorted(FILES)
    assert {file.digest_algorithm for file in parsed.header.files} == {"sha256"}


@pytest.mark.parametrize("kind", ["requires", "provides", "conflicts", "obsoletes"])
def test_dependencies_are_what_rpm_says(parsed: RpmFile, rich: Path, kind: str) -> None:
    done = subprocess.run(["rpm", "-qp", "--nosignature", f"--{kind}", str(rich)], capture_output=True, check=True)
    said = [line.strip() for line in done.stdout.decode().splitlines()]
    assert sorted({str(dependency) for dependency in getattr(parsed.header, kind)}) == sorted(set(said))


def test_all_code_is_listed(parsed: RpmFile) -> None:
    shell, lua, bash = ("/bin/sh",), ("<lua>",), ("/bin/bash",)
    assert [(s.kind, s.interpreter, s.body.strip()) for s in parsed.header.scriptlets] == [
        ("prein", shell, "echo pre"),
        ("postin", ("/sbin/ldconfig",), ""),
        ("preun", lua, 'print("preun")'),
        ("postun", bash, "echo postun $1"),
        ("verify", shell, "echo verify"),
        ("pretrans", lua, 'print("pretrans")'),
        ("posttrans", shell, "echo posttrans"),
        ("triggerin", shell, "echo triggerin"),
        ("triggerun", bash, "echo triggerun"),
        ("triggerpostun", shell, "echo triggerpostun"),
        ("filetriggerin", shell, "echo filetriggerin"),
        ("transfiletriggerpostun", lua, 'print("transfiletriggerpostun")'),
    ]


def test_ranges_follow_each_other_to_the_end(parsed: RpmFile, rich: Path) -> None:
    data = rich.read_bytes()
    assert parsed.lead == (0, 96)
    assert parsed.signature_range[0] == 96
    assert parsed.signature_range[1] <= parsed.header_range[0] < parsed.signature_range[1] + 8
    assert parsed.payload_range == (parsed.header_range[1], len(data))
    assert data[slice(*parsed.header_range)] == parsed.header.raw
    assert data[slice(*parsed.signature_range)] == parsed.signature.raw
    assert parsed.whole_size() == len(data) - parsed.header_range[0]
    assert parsed.signatures() == ()
    decompressed = subprocess.run(["bsdtar", "-tf", "-"], input=data, capture_output=True, check=True).stdout
    assert len(decompressed.splitlines()) == len(FILES)


def test_dependency_text() -> None:
    assert str(Dependency("a", 0, "")) == "a"
    assert str(Dependency("a", 2 | 8, "1:2-3")) == "a <= 1:2-3"
    assert str(Dependency("a", 4, "1")) == "a > 1"
    assert Dependency("rpmlib(CompressedFileNames)", 1 << 24, "1").is_rpmlib


# broken headers


BASIC = [
    Entry(1000, 6, 1, b"tiny\0"), Entry(1001, 6, 1, b"1\0"), Entry(1002, 6, 1, b"1\0"),
    Entry(1022, 6, 1, b"noarch\0"), Entry(1044, 6, 1, b"tiny.src.rpm\0"),
]  # fmt: skip


def package(*entries: Entry, region: "int | None" = surgery.MAIN_REGION, **how: object) -> bytes:
    """A file with this main header and no payload."""
    header = surgery.build_header([*BASIC, *entries], region, **how)  # type: ignore[arg-type]
    size = Entry(surgery.SIG_SIZE, 4, 1, struct.pack(">I", len(header)))
    lead = b"\xed\xab\xee\xdb" + bytes(74) + b"\0\5" + bytes(16)
    return surgery.Parts(lead, (size,), header, b"").join()


def parse(data: bytes) -> RpmFile:
    return RpmFile.parse(BytesView(data, "made.rpm"))


def strings(tag: int, *values: bytes) -> Entry:
    return Entry(tag, 8, len(values), b"".join(value + b"\0" for value in values))


def numbers(tag: int, *values: int) -> Entry:
    return Entry(tag, 4, len(values), struct.pack(f">{len(values)}I", *values))


def one_file(name: bytes = b"x", folder: bytes = b"/usr/", **instead: Entry) -> List[Entry]:
    columns = {
        "modes": Entry(1030, 3, 1, b"\x81\xa4"),
        "indexes": numbers(1116, 0),
        "names": strings(1117, name),
        "folders": strings(1118, folder),
    }
    return list({**columns, **instead}.values())


def test_the_made_package_is_accepted() -> None:
    assert parse(package()).header.nevra == "tiny-1-1.noarch"
    (file,) = parse(package(*one_file())).header.files
    assert (file.path, file.mode, file.user, file.digest_algorithm) == ("/usr/x", 0o100644, "root", "")


def spoil(row: int, column: int, value: int) -> Callable[[List[List[int]]], None]:
    def edit(index: List[List[int]]) -> None:
        index[row][column] = value

    return edit


TAG, KIND, OFFSET, COUNT = range(4)


@pytest.mark.parametrize(
    "edit",
    [
        spoil(1, OFFSET, -1),
        spoil(1, OFFSET, 1 << 30),
        spoil(1, COUNT, 0),
        spoil(1, COUNT, 2),
        spoil(1, COUNT, 0xFFFFFFFF),
        spoil(1, KIND, 0),
        spoil(1, KIND, 10),
        spoil(1, KIND, 0xFFFFFFFF),
        spoil(1, KIND, 4),
        spoil(1, TAG, 1001),
        spoil(2, TAG, 1000),
        spoil(2, OFFSET, 0),
        spoil(2, KIND, 5),
        spoil(0, OFFSET, 0),
        spoil(0, COUNT, 15),
        spoil(0, COUNT, 17),
        spoil(0, KIND, 6),
    ],
)
def test_a_spoilt_index_entry(edit: Callable[[List[List[int]]], None]) -> None:
    with pytest.raises(MalformedError):
        parse(package(edit_index=edit))


def test_regions() -> None:
    with pytest.raises(UnsupportedError, match="rpm 3"):
        parse(package(region=None))
    with pytest.raises(UnsupportedError, match="rpm 3"):
        parse(package(region=62))
    with pytest.raises(MalformedError, match="outside the immutable region"):
        parse(package(outside=[Entry(1004, 6, 1, b"unsigned\0")]))
    data = package()
    trailer = struct.pack(">IIiI", 63, 7, -16 * 6, 16)
    assert data.endswith(trailer)
    for wrong in ((63, 7, -16 * 5, 16), (63, 7, -16 * 7, 16), (63, 7, 16, 16), (63, 7, -95, 16), (62, 7, -96, 16)):
        with pytest.raises(MalformedError):
            parse(data[:-16] + struct.pack(">IIiI", *wrong))


def test_data_behind_the_regions_trailer() -> None:
    data = package()
    start = data.index(surgery.MAGIC, 100)
    size = struct.unpack(">I", data[start + 12 : start + 16])[0]
    longer = data[: start + 12] + struct.pack(">I", size + 4) + data[start + 16 :] + b"abcd"
    with pytest.raises(MalformedError, match="outside the immutable region"):
        parse(longer)


def test_a_signature_header_may_have_entries_behind_its_region() -> None:
    data = package()
    parts = surgery.take_apart(data)
    outside = surgery.build_header(parts.signature, 62, outside=[Entry(1007, 4, 1, bytes(4))])
    rest = parts.header
    joined = parts.lead + outside + bytes(-len(outside) % 8) + rest
    assert parse(joined).header.name == "tiny"


def test_unterminated_strings() -> None:
    """The trailer's own zero bytes must not be taken for the end of a string that has none."""
    data = package()
    with pytest.raises(MalformedError):
        parse(package(edit_index=spoil(5, COUNT, 9)))
    with pytest.raises(MalformedError, match="overlaps"):
        parse(data.replace(b"tiny.src.rpm\0", b"tiny.src.rpmx"))
    assert data.count(b"tiny.src.rpm\0") == 1


@pytest.mark.parametrize(
    "entries",
    [
        one_file(folder=b"usr/"),
        one_file(folder=b"/usr/../"),
        one_file(folder=b"//"),
        one_file(name=b".."),
        one_file(name=b""),
        one_file(name=b"a/b"),
        one_file(name=b"a\nb"),
        one_file(name=b"\x1b[31m"),
        one_file(name=b"\xff"),
        one_file(indexes=numbers(1116, 1)),
        one_file(indexes=numbers(1116, 0, 0)),
        one_file(modes=Entry(1030, 3, 2, b"\x81\xa4\x81\xa4")),
        one_file(modes=Entry(1030, 6, 1, b"x\0")),
        one_file(names=strings(1117, b"x", b"x"), indexes=numbers(1116, 0, 0)),
        [*one_file(), strings(1027, b"/other")],
        [*one_file(), strings(1039, b"a", b"b")],
        [*one_file(), numbers(5011, 77)],
        one_file()[1:],
        [strings(1049, b"a", b"b"), numbers(1048, 0), strings(1050, b"", b"")],
        [strings(1065, b"script"), strings(1066, b"a"), numbers(1069, 1), numbers(1068, 1 << 16)],
        [strings(1065, b"script"), strings(1066, b"a"), numbers(1069, 0), numbers(1068, 0)],
        [strings(1065, b"script"), strings(1066, b"a"), numbers(1069, 0, 0), numbers(1068, 1 << 16)],
        [strings(5092, b"00", b"11")],
        [strings(5092, b"not hex")],
        [Entry(5092, 4, 1, bytes(4))],
        [numbers(1003, 1, 2)],
    ],
)
def test_contents_that_contradict_themselves(entries: List[Entry]) -> None:
    with pytest.raises(MalformedError):
        parse(package(*sorted(entries, key=lambda entry: entry.tag)))


@pytest.mark.parametrize("name", [b"", b"a b", b"a/b", b"a\nb", b"\xff", b"a\x1b[2J"])
def test_names_that_are_none(name: bytes) -> None:
    header = surgery.build_header([replace(BASIC[0], data=name + b"\0"), *BASIC[1:]], surgery.MAIN_REGION)
    parts = surgery.take_apart(package())
    with pytest.raises(MalformedError):
        parse(replace(parts, header=header).join())


def test_lead_and_magic() -> None:
    data = package()
    for position in (0, 3, 79, 96, 103, data.index(surgery.MAGIC, 100)):
        with pytest.raises(MalformedError):
            parse(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])


def test_signatures_that_are_no_base64() -> None:
    parts = surgery.take_apart(package()).with_signature(strings(278, b"!!"))
    with pytest.raises(MalformedError, match="base64"):
        parse(parts.join()).signatures()
    assert tag_numbers.SIG_OPENPGP == 278


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_change_of_bytes_fails_otherwise(data: st.DataObject, rich: Path) -> None:
    whole = rich.read_bytes()
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    content = bytearray(whole[:cut])
    for _ in range(data.draw(st.integers(0, 6))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        package_file = parse(bytes(content))
        package_file.signatures()
        package_file.header_digests()
        package_file.whole_md5()
        package_file.whole_size()
    except RespinError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 6), st.integers(0, 80))
def test_any_bytes_behind_an_intro(tail: bytes, entries: int, size: int) -> None:
    data = surgery.MAGIC + struct.pack(">II", entries, size) + tail
    try:
        Header.parse(BytesView(data, "x"), 0, signature=False)
    except RespinError:
        pass
