"""What changes on the medium besides the root image: every copy of the boot configuration, and digests that follow.

The new ISOs are written by the splicer and read by xorriso, mtools and sha256sum.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

import pytest

from respin.byteview import BytesView, FileView
from respin.errors import BuildError, PolicyError, UnsupportedError, UsageError
from respin.formats.bootconfig import ArgumentEdit
from respin.formats.iso9660.image import IsoImage
from respin.formats.iso9660.plan import plan_splice
from respin.medium.arguments import check_arguments, edit_medium
from respin.medium.bootfiles import find_boot_files
from respin.medium.checksums import with_checksums
from respin.medium.edit import NOTHING, MediumEdit, overlaid, require_applied
from respin.node.knownprofiles import built_in
from respin.node.profile import Profile
from respin.segments import Copy, Data, Segment, SegmentsView
from tests.support import layouts
from tests.support.images import extracted, run
from tests.support.iso import Content, build_classic_iso, noise

PROFILES: Mapping[str, Profile] = {profile.id: profile for profile in built_in()}
CLASSIC, DEBIAN, NG = PROFILES["ovirt-node-classic"], PROFILES["debian-live"], PROFILES["ovirt-node-ng"]
GRUB = "menuentry x {\n linux /isolinux/vmlinuz0 root=live:CDLABEL=X quiet\n initrd /i\n}\n"
ISOLINUX = "label x\n kernel vmlinuz0\n append initrd=initrd0.img root=live:CDLABEL=X quiet\n"
EDIT = ArgumentEdit(("a=1",), ("quiet",))
IMAGE = "/isolinux/efiboot.img"


def fat(path: Path, files: Mapping[str, str]) -> Path:
    """A FAT volume with ``files`` in its root or one directory below."""
    run("mkfs.vfat", "-i", "12345678", "-C", path, "1440")
    for name, content in files.items():
        path.with_suffix(".file").write_text(content)
        if "/" in name:
            run("mmd", "-D", "s", "-i", path, *[f"::{part}" for part in _above(name)])
        run("mcopy", "-i", path, path.with_suffix(".file"), f"::{name}")
    return path


def _above(name: str) -> List[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def tree(tmp: Path, **more: Content) -> Dict[str, Content]:
    image = fat(tmp / "efi.img", {"EFI/BOOT/grub.cfg": GRUB})
    return {"isolinux/isolinux.cfg": ISOLINUX, "isolinux/efiboot.img": image, "EFI/BOOT/grub.cfg": GRUB, **more}


def opened(path: Path) -> IsoImage:
    return IsoImage.open(BytesView(path.read_bytes(), path.name))


def written(iso: IsoImage, edit: MediumEdit, path: Path, root: Optional[Dict[str, bytes]] = None) -> Path:
    """The new ISO, as a build would write it; ``root`` are further files with other content."""
    content: Dict[str, Sequence[Segment]] = {name: [Data(data)] for name, data in (root or {}).items()}
    content.update(edit.files)
    plan = plan_splice(iso, {**{name: len(data) for name, data in (root or {}).items()}, **edit.sizes})
    segments = list(plan.segments(content))
    require_applied(segments, edit.patches, iso.name)
    view = SegmentsView(list(overlaid(segments, edit.patches)), iso.view, "new")
    path.write_bytes(view.read(0, view.size))
    return path


def content_of(iso: Path, name: str, tmp: Path) -> bytes:
    return extracted(iso, name, tmp / "extracted").read_bytes()


def test_all_copies_of_a_classic_node_are_found_once(tmp_path: Path) -> None:
    found = find_boot_files(opened(build_classic_iso(tmp_path / "x", tree(tmp_path))), CLASSIC)
    places = ["/EFI/BOOT/grub.cfg", "/isolinux/isolinux.cfg", f"{IMAGE}:/EFI/BOOT/grub.cfg"]
    assert [copy.place for copy in found.copies] == places
    (image,) = found.images
    assert "UEFI from CD" in image.roads
    assert any(road.startswith("UEFI from disk") for road in image.roads)
    assert found.closed == ()


def test_all_copies_are_edited_and_read_back_by_others(tmp_path: Path) -> None:
    iso = opened(build_classic_iso(tmp_path / "x", tree(tmp_path)))
    new = written(iso, edit_medium(iso, CLASSIC, EDIT), tmp_path / "new.iso")
    (tmp_path / "after.img").write_bytes(content_of(new, IMAGE, tmp_path))
    run("fsck.fat", "-n", tmp_path / "after.img")
    wanted = [text.replace(" quiet", " a=1").encode() for text in (ISOLINUX, GRUB, GRUB)]
    assert content_of(new, "/isolinux/isolinux.cfg", tmp_path) == wanted[0]
    assert content_of(new, "/EFI/BOOT/grub.cfg", tmp_path) == wanted[1]
    assert run("mtype", "-i", tmp_path / "after.img", "::EFI/BOOT/grub.cfg") == wanted[2]
    assert content_of(new, "/LiveOS/squashfs.img", tmp_path) == noise("payload", 3_000_001)


@pytest.mark.parametrize("layout", sorted(set(layouts.LAYOUTS) - {"mac"}))
def test_every_copy_of_every_layout_is_edited_and_the_ways_to_boot_agree(layout: str, tmp_path: Path) -> None:
    files = {"isolinux/isolinux.cfg": ISOLINUX, "EFI/BOOT/grub.cfg": GRUB}
    iso = opened(layouts.build(tmp_path / "x", layout, files))
    edit = edit_medium(iso, CLASSIC, EDIT)
    payload = noise("larger payload", 3_500_000)
    new = written(iso, edit, tmp_path / "new.iso", {"/LiveOS/squashfs.img": payload})
    assert content_of(new, "/LiveOS/squashfs.img", tmp_path) == payload
    assert content_of(new, "/isolinux/isolinux.cfg", tmp_path) == ISOLINUX.replace(" quiet", " a=1").encode()
    images = find_boot_files(opened(new), CLASSIC).images
    assert len(images) == len(find_boot_files(iso, CLASSIC).images) >= 1
    for image in images:
        said = run("mtype", "-i", f"{new}@@{image.offset}", "::EFI/BOOT/grub.cfg")
        assert said == GRUB.replace(" quiet", " a=1").encode()
        (tmp_path / "after.img").write_bytes(new.read_bytes()[image.offset :][: image.volume.geometry.size])
        run("fsck.fat", "-n", tmp_path / "after.img")


def test_a_boot_image_for_a_mac_cannot_be_edited_and_is_named(tmp_path: Path) -> None:
    iso = opened(layouts.build(tmp_path / "x", "mac", {"isolinux/isolinux.cfg": ISOLINUX}))
    with pytest.raises(UnsupportedError, match="is no FAT volume"):
        edit_medium(iso, CLASSIC, EDIT)


def test_includes_are_followed(tmp_path: Path) -> None:
    files = tree(
        tmp_path,
        **{
            "isolinux/isolinux.cfg": "include Menu.CFG\nmenu include missing.cfg\n",
            "isolinux/menu.cfg": "include deeper.inc\n",
            "isolinux/deeper.inc": ISOLINUX,
            "EFI/BOOT/grub.cfg": "set prefix=($root)/grub-stuff\nsource $prefix/entries\n"
            "configfile ${config_directory}/b\n",
            "grub-stuff/entries": GRUB,
            "EFI/BOOT/b": GRUB,
        },
    )
    iso = opened(build_classic_iso(tmp_path / "x", files))
    edit = edit_medium(iso, CLASSIC, EDIT)
    assert {"/isolinux/deeper.inc", "/grub-stuff/entries", "/EFI/BOOT/b"} < {one.place for one in edit.edited}


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("EFI/BOOT/grub.cfg", "source $unknown/x.cfg\n", "in a variable"),
        ("isolinux/efiboot.img", "no volume" * 300, "no FAT volume"),
        ("isolinux/isolinux.cfg", "label x\n kernel mboot.c32\n append xen.gz --- vmlinuz\n", "another kind"),
    ],
)
def test_what_cannot_be_edited_everywhere_is_not_edited(name: str, text: str, word: str, tmp_path: Path) -> None:
    iso = opened(build_classic_iso(tmp_path / "x", tree(tmp_path, **{name: text})))
    with pytest.raises(UnsupportedError, match=word):
        edit_medium(iso, CLASSIC, EDIT)


def test_an_edit_of_nothing_is_nothing(tmp_path: Path) -> None:
    iso = opened(build_classic_iso(tmp_path / "x", tree(tmp_path)))
    assert edit_medium(iso, CLASSIC, ArgumentEdit()) == NOTHING
    with pytest.raises(UsageError, match="no boot entry has the argument nowhere"):
        edit_medium(iso, CLASSIC, ArgumentEdit((), ("nowhere",)))


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (ArgumentEdit(("root=/dev/sda",)), PolicyError),
        (ArgumentEdit((), ("root",)), PolicyError),
        (ArgumentEdit((), ("x=LABEL",)), PolicyError),
        (ArgumentEdit(("a b",)), UsageError),
        (ArgumentEdit(('a"',)), UsageError),
        (ArgumentEdit(("a;b",)), UsageError),
        (ArgumentEdit(("$a",)), UsageError),
        (ArgumentEdit(("--",)), UsageError),
        (ArgumentEdit(("",)), UsageError),
        (ArgumentEdit(("a=1",), ("a",)), UsageError),
    ],
)
def test_arguments_that_must_not_change(edit: ArgumentEdit, error: type) -> None:
    with pytest.raises(error):
        check_arguments(edit, CLASSIC, "LABEL")
    check_arguments(ArgumentEdit(("console=ttyS0,115200n8", "a.b_c=1"), ("quiet",)), CLASSIC, "LABEL")


@pytest.mark.parametrize(
    ("word", "label", "names"),
    [
        ("x=hd:LABEL=NODE-1", "NODE-1", True),
        ("x=NODE-12", "NODE-1", False),
        ("console=ttyS0", "con", False),
        ("x=Ax20B:/y", "A B", True),
        ("x=A_B", "A B", True),
        ("quiet", "", False),
    ],
)
def test_a_label_counts_as_a_whole(word: str, label: str, names: bool) -> None:
    if not names:
        check_arguments(ArgumentEdit((), (word,)), DEBIAN, label)
        return
    with pytest.raises(PolicyError):
        check_arguments(ArgumentEdit((), (word,)), DEBIAN, label)


def test_an_argument_that_names_the_volume_is_not_removed_by_its_name_alone(tmp_path: Path) -> None:
    label = "LABEL WITH SPACE"
    text = "menuentry x {\n linux /v root=live:x other=hd:LABEL=LABEL\\x20WITH\\x20SPACE\n}\n"
    path = build_classic_iso(tmp_path / "x", tree(tmp_path, **{"EFI/BOOT/grub.cfg": text}), options=["-V", label])
    with pytest.raises(PolicyError, match="names the volume"):
        edit_medium(opened(path), CLASSIC, ArgumentEdit((), ("other",)))


def test_lists_of_digests_follow_and_sha256sum_agrees(tmp_path: Path) -> None:
    files = tree(tmp_path, **{"live/filesystem.squashfs": noise("root", 70_000), "boot/grub/grub.cfg": GRUB})
    names = ["live/filesystem.squashfs", "boot/grub/grub.cfg", "isolinux/vmlinuz0", "isolinux/efiboot.img"]
    plain = opened(build_classic_iso(tmp_path / "plain", files))
    contents = {name: plain.read(f"/{name}") for name in names}
    lists = {
        f"{kind}sum.txt": "".join(f"{hashlib.new(kind, contents[name]).hexdigest()}  ./{name}\n" for name in names)
        for kind in ("sha256", "md5")
    }
    iso = opened(build_classic_iso(tmp_path / "x", {**files, **lists}))
    new_root = noise("new root", 90_000)
    edit = edit_medium(iso, DEBIAN, EDIT)
    edit = with_checksums(iso, DEBIAN, edit, "/live/filesystem.squashfs", BytesView(new_root, "new"))
    new = written(iso, edit, tmp_path / "new.iso", {"/live/filesystem.squashfs": new_root})
    extracted(new, "/", tmp_path / "all")
    run("sh", "-c", f"cd {tmp_path}/all && sha256sum -c --quiet --strict sha256sum.txt && md5sum -c --quiet md5sum.txt")
    assert [one.place for one in edit.edited if one.why == "checksum"] == ["/md5sum.txt", "/sha256sum.txt"]
    old_lines, new_lines = (one.read("/sha256sum.txt").splitlines() for one in (iso, opened(new)))
    changed = [old[66:] for old, now in zip(old_lines, new_lines) if old != now]
    assert changed == [f"./{name}".encode() for name in names if "vmlinuz" not in name]


def test_a_kickstart_and_the_treeinfo_that_names_it_follow(tmp_path: Path) -> None:
    old, new = noise("payload", 50_000), noise("new payload", 60_000)
    url = "file:///run/install/repo/node.squashfs.img"
    kickstart = f"liveimg --url={url} --checksum={hashlib.sha256(old).hexdigest()}\n%post\nimgbase\n%end\n"
    treeinfo = f"[checksums]\ninteractive-defaults.ks = sha256:{hashlib.sha256(kickstart.encode()).hexdigest()}\n"
    files: Dict[str, Content] = {"node.squashfs.img": old, "interactive-defaults.ks": kickstart, ".treeinfo": treeinfo}
    iso = opened(build_classic_iso(tmp_path / "x", {**tree(tmp_path), **files}))
    edit = with_checksums(iso, NG, NOTHING, "/node.squashfs.img", BytesView(new, "new"))
    after = opened(written(iso, edit, tmp_path / "new.iso", {"/node.squashfs.img": new}))
    changed = kickstart.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest()).encode()
    assert after.read("/interactive-defaults.ks") == changed
    assert after.read("/.treeinfo").endswith(hashlib.sha256(changed).hexdigest().encode() + b"\n")


def test_lists_that_name_each_other_are_refused(tmp_path: Path) -> None:
    zeros = "0" * 64
    files = {
        "sha256sum.txt": f"{zeros}  ./md5sum.txt\n{zeros}  ./live/filesystem.squashfs\n",
        "md5sum.txt": f"{'0' * 32}  ./sha256sum.txt\n",
        "live/filesystem.squashfs": "root",
    }
    iso = opened(build_classic_iso(tmp_path / "x", tree(tmp_path, **files)))
    with pytest.raises(UnsupportedError, match="in a circle"):
        with_checksums(iso, DEBIAN, NOTHING, "/live/filesystem.squashfs", BytesView(b"new", "new"))


def test_a_patch_that_would_be_lost_is_an_error() -> None:
    segments = [Copy(0, 100), Data(b"x"), Copy(120, 50)]
    require_applied(segments, {10: b"abc", 98: b"ab", 120: b"a"}, "x")
    for patches in ({98: b"abc"}, {100: b"a"}, {170: b"a"}):
        with pytest.raises(BuildError):
            require_applied(segments, patches, "x")


def test_patches_go_where_the_bytes_are_copied(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(range(200)))
    with (tmp_path / "base").open("rb") as stream:
        base = FileView(stream.fileno(), "base")
        segments = [Copy(100, 50), Data(b"--"), Copy(0, 20), Copy(140, 20)]
        view = SegmentsView(list(overlaid(segments, {5: b"AB", 145: b"0123456789", 100: b"Z"})), base, "new")
        data = view.read(0, view.size)
    changed = bytearray(range(200))
    changed[5:7], changed[145:155], changed[100:101] = b"AB", b"0123456789", b"Z"
    assert data == bytes(changed[100:150] + b"--" + changed[0:20] + changed[140:160])
