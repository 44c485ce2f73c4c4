"""Every vendor's layout, spliced, and held against programs and a raw rebuild that share no code with the splicer."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import pycdlib
import pytest

from respin.formats.iso9660 import Place
from respin.process import run
from tests.support import iso, layouts, rawiso
from tests.support.splicing import splice, with_media_check

PAYLOAD = "/LiveOS/squashfs.img"
DEEP = "/docs/2/3/4/5/6/7/8/9"
NEW: Sequence[Tuple[str, bytes, Place]] = (
    ("/respin.json", b'{"a": "statement"}' * 500, Place.END),
    ("/respin.sig", b"s" * 16_384, Place.UNCHECKED),
    ("/images/updates.img", b"u" * 5_000, Place.BESIDE),
    (f"{DEEP}/new file name.txt".replace(" ", "-"), b"deep and new\n", Place.BESIDE),
    ("/isolinux/initrd0.image", b"8.3 of a name that is there\n", Place.BESIDE),
)
REPLACED: Mapping[str, bytes] = {
    "/images/pxeboot/initrd.img": iso.noise("initrd 3", 200_001),
    "/isolinux/isolinux.cfg": b"default other\n",
    "/EFI/BOOT/grub.cfg": b"configfile other\n" * 300,
}
SIZES = {"growing": 3_210_987, "shrinking": 700_001}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    directory = tmp_path_factory.mktemp("layouts")
    return {name: layouts.build(directory / name, name).read_bytes() for name in layouts.LAYOUTS}


@pytest.fixture(params=sorted(layouts.LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def output(*argv: str) -> str:
    done = run(argv, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_replacing_gives_the_bytes_of_a_raw_rebuild(built: Dict[str, bytes], layout: str, size: int) -> None:
    base = built[layout]
    old = next(r for r in rawiso.records(base, False) if r.path == PAYLOAD)
    new = iso.noise("new payload", size)
    plan, out = splice(base, {PAYLOAD: new})
    assert (plan.size - len(base)) % (1 << 20) == 0
    expected = rawiso.relocate(base, old.extent, old.size, new, (plan.size - len(base)) // 2048)
    assert len(out) == len(expected) == plan.size
    assert rawiso.differing(out, expected) == {}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_records_differ_exactly_as_requested(built: Dict[str, bytes], layout: str, size: int) -> None:
    base = built[layout]
    replaced = {PAYLOAD: iso.noise("new payload", size), **REPLACED}
    out = splice(base, replaced, NEW)[1]
    assert rawiso.bases(out) == rawiso.bases(base) == ((0, 16) if layout in layouts.TWO_SETS else (0,))
    extents = []
    for set_base in rawiso.bases(base):
        for joliet in (False, True):
            extents.append(_require_records(base, out, replaced, joliet, set_base))
    assert all(one == extents[0] for one in extents)


def _require_records(
    base: bytes, out: bytes, replaced: Mapping[str, bytes], joliet: bool, set_base: int
) -> Dict[str, Tuple[int, int]]:
    """Compare one tree; returns where it has the new files."""
    before = {(r.path, r.identifier): r for r in rawiso.records(base, joliet, set_base)}
    after = {(r.path, r.identifier): r for r in rawiso.records(out, joliet, set_base)}
    hard_links = {"/images/pxeboot/second-name": "/images/pxeboot/initrd.img"}
    added = {path: data for path, data, _ in NEW}
    assert not set(before) - set(after)
    new = [key for key in after if key not in before]
    assert sorted(path.rpartition("/")[2] for path, _ in new) == sorted(path.rpartition("/")[2] for path in added)
    assert len({identifier for _, identifier in new}) == len(new)
    for key, old in before.items():
        now = after[key]
        path = hard_links.get(key[0], key[0])
        assert now.raw[:2] == old.raw[:2]
        assert now.raw[18 : 33 + len(old.identifier)] == old.raw[18 : 33 + len(old.identifier)]
        content = out[now.extent * 2048 : now.extent * 2048 + now.size]
        if path in replaced:
            assert content == replaced[path]
        elif not old.is_directory:
            assert content == base[old.extent * 2048 : old.extent * 2048 + old.size] or _is_boot_image(content)
            assert len(content) == old.size
        for (signature, _, one), (_, _, other) in zip(old.entries, now.entries):
            if signature in (b"CE", b"CL", b"PL"):
                assert one[:4] + one[12:] == other[:4] + other[12:]
            else:
                assert one == other
        assert len(old.entries) == len(now.entries)
    found = {path.rpartition("/")[2]: after[path, identifier] for path, identifier in new}
    for path, data in added.items():
        record = found[path.rpartition("/")[2]]
        assert out[record.extent * 2048 : record.extent * 2048 + record.size] == data
    return {name: (record.extent, record.size) for name, record in found.items()}


def _is_boot_image(content: bytes) -> bool:
    """isolinux.bin and GRUB's image hold their own place; boot.cat holds that of both."""
    return content[8:12] == b"\x10\0\0\0" or content[30:32] == b"\x55\xaa"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_independent_programs_agree(built: Dict[str, bytes], layout: str, size: int, tmp_path: Path) -> None:
    base = tmp_path / "base.iso"
    base.write_bytes(built[layout])
    replaced = {PAYLOAD: iso.noise("new payload", size), **REPLACED}
    plan, data = splice(built[layout], replaced, NEW)
    path = tmp_path / "out.iso"
    path.write_bytes(with_media_check(plan, data))
    assert layouts.without_numbers(layouts.report(path)) == layouts.without_numbers(layouts.report(base))
    checks = {one: output("sgdisk", "-v", str(one)) for one in (base, path)}
    assert _problems(checks[path]) == _problems(checks[base])
    if layout not in ("live-build", "kiwi"):
        assert "PASS" in output("checkisomd5", str(base))
        assert "PASS" in output("checkisomd5", str(path))
    # the slot lies where the media check doesn't look, everything before it where it does
    offset, _ = plan.files["/respin.sig"]
    assert offset == (plan.volume_space_size - plan.unchecked_blocks) * 2048
    expected = _expected(base, tmp_path / "before", replaced)
    for tool in (_by_bsdtar, _by_xorriso):
        found = tool(path, tmp_path / tool.__name__)
        assert found.keys() == expected.keys()
        assert [name for name, content in expected.items() if found[name] != content] == []
    _require_7z(base, path, tmp_path, replaced)
    _require_pycdlib(path, set(expected))


def _require_7z(base: Path, path: Path, directory: Path, replaced: Mapping[str, bytes]) -> None:
    """It has its own idea of names (of deep directories, and of those in continuation areas), but always the same."""
    before, after = _by_7z(base, directory / "7z-before"), _by_7z(path, directory / "7z-after")
    wanted = {**{name[1:]: data for name, data in replaced.items()}}
    wanted["images/pxeboot/second-name"] = wanted["images/pxeboot/initrd.img"]
    assert before.keys() <= after.keys()
    assert [name for name, data in before.items() if after[name] != wanted.get(name, data)] == []
    assert sorted(after[name] for name in after.keys() - before.keys()) == sorted(data for _, data, _ in NEW)


def _problems(report: str) -> List[str]:
    return re.findall(r"(?:Problem|Warning|Caution|Error|corrupt|CRC|damaged)[^\n]{0,40}", re.sub(r"\d+", "N", report))


def _expected(base: Path, directory: Path, replaced: Mapping[str, bytes]) -> Dict[str, bytes]:
    found = _by_bsdtar(base, directory)
    found.update({path[1:]: data for path, data in replaced.items()})
    found["images/pxeboot/second-name"] = replaced["/images/pxeboot/initrd.img"]
    found.update({path[1:]: data for path, data, _ in NEW})
    for name in [name for name in found if name.endswith(("boot.cat", "isolinux.bin", "eltorito.img"))]:
        del found[name]
    return found


def _files(directory: Path) -> Dict[str, bytes]:
    run(["chmod", "-R", "u+rwX", str(directory)])
    found = {
        str(p.relative_to(directory)): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and not p.is_symlink() and not p.name.endswith(("boot.cat", "isolinux.bin", "eltorito.img"))
    }
    shutil.rmtree(directory)
    return found


def _by_bsdtar(path: Path, directory: Path) -> Dict[str, bytes]:
    directory.mkdir()
    run(["bsdtar", "-xf", str(path), "-C", str(directory)])
    return _files(directory)


def _by_xorriso(path: Path, directory: Path) -> Dict[str, bytes]:
    run(["xorriso", "-osirrox", "on", "-indev", str(path), "-extract", "/", str(directory)])
    return _files(directory)


def _by_7z(path: Path, directory: Path) -> Dict[str, bytes]:
    run(["7z", "x", "-y", f"-o{directory}", str(path)], check=False)
    return _files(directory)


def _require_pycdlib(path: Path, names: "set[str]") -> None:
    other = pycdlib.PyCdlib()
    other.open(str(path))
    for kind in ("rr_path", "joliet_path"):
        walked = other.walk(**{kind: "/"})
        found = {f"{directory.rstrip('/')}/{name}"[1:] for directory, _, files in walked for name in files}
        assert {name for name in names if kind == "rr_path" or len(name) <= 64} <= found
    other.close()
