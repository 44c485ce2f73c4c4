"""Boot configurations: which words the kernels get, and edits that change those and no other byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, Tuple

import pytest

from respin.errors import UnsupportedError
from respin.formats.bootconfig import ArgumentEdit, Config, Kind, edit_arguments, kind_of, parse
from tests.support.images import run

LORAX_GRUB = rb"""set default="1"

function load_video {
  insmod all_video
}

search --no-floppy --set=root -l 'Node-4.5 x86_64'

### BEGIN /etc/grub.d/10_linux ###
menuentry 'Install Node 4.5' --class fedora --class gnu-linux {
	linuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Node-4.5\x20x86_64 inst.ks=hd:LABEL=x:/i.ks quiet
	initrdefi /images/pxeboot/initrd.img
}
submenu 'Troubleshooting -->' {
	menuentry 'Basic graphics' {
		linuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Node-4.5\x20x86_64 nomodeset quiet  # a comment
		initrdefi /images/pxeboot/initrd.img
	}
	# linux /images/pxeboot/vmlinuz this is a comment
	menuentry 'Test memory' { linux16 /images/memtest86+; }
	menuentry "linux /not/one quiet" { chainloader /EFI/x.efi }
}
"""
DEBIAN_GRUB = rb"""source /boot/grub/config.cfg
if [ x$grub_platform = xefi ]; then set extra="efi splash"; else set extra=splash; fi
menuentry "Live \"system\"" --hotkey=l {
	linux	/live/vmlinuz-6.1.0-18-amd64 boot=live components quiet ${extra} \
		findiso=${iso_path} --- debian-installer/language=de
	initrd	/live/initrd.img-6.1.0-18-amd64
}
"""
KIWI_GRUB = rb"""set linux=linux
if [ "${grub_cpu}" = "x86_64" ]; then set linux=linuxefi; fi
menuentry Live { $linux ($root)/boot/x86_64/loader/linux ${extra_cmdline} root=live:CDLABEL=X rd.live.image; initrd /i }
"""
ISOLINUX = b"""default vesamenu.c32
timeout 600
display boot.msg
menu title Node: quiet or not
menu include other.cfg
include live.cfg # comment
label linux
  menu label ^Install
  menu default
  kernel vmlinuz0
  append initrd=initrd0.img root=live:CDLABEL=Node rootfstype=auto ro liveimg quiet  rhgb
  text help
      append this is help, not an argument
      label neither
  endtext
LABEL check
\tKERNEL vmlinuz0
\tINITRD initrd0.img
label memtest
  kernel memtest
label local
  localboot 0xffff
label chained
  kernel chain.c32
  append hd0
label dash
  linux vmlinuz0 single quiet
  append -
label nothing
  kernel vmlinuz0 initrd=initrd0.img
  append\t
"""
LEGACY = b"""#debug
default=0
title Node
  findiso
  kernel --no-mem-option @KERNELPATH@/vmlinuz0 root=live:LABEL=Node quiet
  initrd /isolinux/initrd0.img
title Memory
  kernel /isolinux/memtest
"""
BLS = b"title Node\nlinux /vmlinuz\ninitrd /initrd\noptions root=live:x\noptions quiet\n"


def grub(data: bytes) -> Config:
    return parse(data, Kind.GRUB, "grub.cfg")


def words(config: Config) -> List[Tuple[str, Tuple[str, ...]]]:
    return [(entry.kernel, entry.arguments) for entry in config.entries]


def replaced(data: bytes, *changes: Tuple[bytes, bytes]) -> bytes:
    """``data`` with each old text, which must stand there exactly once, replaced."""
    for old, new in changes:
        assert data.count(old) == 1, old
        data = data.replace(old, new)
    return data


def test_lorax_grub_has_the_entries_that_start_linux() -> None:
    config = grub(LORAX_GRUB)
    stage2 = "inst.stage2=hd:LABEL=Node-4.5x20x86_64"
    assert [entry.title for entry in config.entries] == ["Install Node 4.5", "Basic graphics"]
    assert words(config) == [
        ("/images/pxeboot/vmlinuz", (stage2, "inst.ks=hd:LABEL=x:/i.ks", "quiet")),
        ("/images/pxeboot/vmlinuz", (stage2, "nomodeset", "quiet")),
    ]
    assert [entry.line for entry in config.entries] == [11, 16]


def test_an_edit_of_grub_changes_the_lines_and_nothing_else() -> None:
    after = edit_arguments(grub(LORAX_GRUB), ArgumentEdit(("exnic.debug=1", "console=ttyS0"), ("quiet",)))
    assert after == replaced(
        LORAX_GRUB,
        (b"x:/i.ks quiet", b"x:/i.ks exnic.debug=1 console=ttyS0"),
        (b"nomodeset quiet  #", b"nomodeset exnic.debug=1 console=ttyS0  #"),
    )


def test_words_go_in_front_of_what_is_not_for_the_kernel() -> None:
    config = grub(DEBIAN_GRUB)
    assert config.includes == ("/boot/grub/config.cfg",)
    assert config.entries[0].title == 'Live "system"'
    assert edit_arguments(config, ArgumentEdit(("a=1",), ("components",))) == replaced(
        DEBIAN_GRUB, (b"${iso_path} ---", b"${iso_path} a=1 ---"), (b"boot=live components", b"boot=live")
    )


@pytest.mark.parametrize("argument", ["splash", "efi"])
def test_what_comes_out_of_a_variable_cannot_be_removed(argument: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{argument} comes out of the variable extra"):
        edit_arguments(grub(DEBIAN_GRUB), ArgumentEdit((), (argument,)))


def test_a_variable_as_the_command_counts_and_a_brace_ends_it() -> None:
    config = grub(KIWI_GRUB)
    assert words(config) == [
        ("($root)/boot/x86_64/loader/linux", ("${extra_cmdline}", "root=live:CDLABEL=X", "rd.live.image"))
    ]
    assert edit_arguments(config, ArgumentEdit(("a",))) == replaced(KIWI_GRUB, (b"rd.live.image;", b"rd.live.image a;"))
    unset = KIWI_GRUB.replace(b"=linuxefi", b"=x").replace(b"linux=linux", b"linux=y")
    assert grub(unset).entries == ()


@pytest.mark.parametrize("text", [b"multiboot /xen.gz\n", b"menuentry x { xen_hypervisor /xen }"])
def test_kernels_of_another_kind_are_refused(text: bytes) -> None:
    with pytest.raises(UnsupportedError, match="another kind"):
        edit_arguments(grub(text), ArgumentEdit(("a",)))


@pytest.mark.parametrize("text", [LORAX_GRUB, DEBIAN_GRUB, KIWI_GRUB], ids=["lorax", "debian", "kiwi"])
def test_grub_accepts_what_was_edited(text: bytes, tmp_path: Path) -> None:
    if shutil.which("grub-script-check") is None:
        pytest.skip("grub-script-check is in grub-common")
    (tmp_path / "grub.cfg").write_bytes(edit_arguments(grub(text), ArgumentEdit(("a=1", "b"), ("quiet", "root"))))
    run("grub-script-check", tmp_path / "grub.cfg")


def test_isolinux_has_the_labels_that_start_linux() -> None:
    config = parse(ISOLINUX, Kind.ISOLINUX, "isolinux.cfg")
    root = ("initrd=initrd0.img", "root=live:CDLABEL=Node", "rootfstype=auto", "ro", "liveimg", "quiet", "rhgb")
    assert [(entry.title, entry.arguments) for entry in config.entries] == [
        ("linux", root),
        ("check", ()),
        ("dash", ("single", "quiet")),
        ("nothing", ("initrd=initrd0.img",)),
    ]
    assert config.includes == ("other.cfg", "live.cfg")


def test_an_edit_of_isolinux_changes_the_lines_and_nothing_else() -> None:
    config = parse(ISOLINUX, Kind.ISOLINUX, "isolinux.cfg")
    after = edit_arguments(config, ArgumentEdit(("a=1", "liveimg"), ("quiet", "rootfstype")))
    assert after == replaced(
        ISOLINUX,
        (b"CDLABEL=Node rootfstype=auto ro liveimg quiet  rhgb\n", b"CDLABEL=Node ro liveimg  rhgb a=1\n"),
        (b"\tKERNEL vmlinuz0\n", b"\tKERNEL vmlinuz0\n\tappend a=1 liveimg\n"),
        (b"single quiet\n  append -\n", b"single\n  append a=1 liveimg\n"),
        (b"  append\t\n", b"  append a=1 liveimg\t\n"),
    )


def test_labels_without_arguments_get_those_of_the_top() -> None:
    text = b"append root=live:x quiet\r\nlabel a\r\n kernel vmlinuz\r\nlabel b\r\n kernel vmlinuz\r\n append y\r\n"
    config = parse(text, Kind.ISOLINUX, "isolinux.cfg")
    assert [entry.arguments for entry in config.entries] == [("root=live:x", "quiet"), ("y",)]
    after = edit_arguments(config, ArgumentEdit(("a",), ("quiet",)))
    assert after == replaced(text, (b"root=live:x quiet", b"root=live:x a"), (b"append y", b"append y a"))


def test_a_new_line_ends_as_the_others_do() -> None:
    text = b"label a\r\n  kernel vmlinuz\r\nlabel b\r\n  localboot 0\r\n"
    after = edit_arguments(parse(text, Kind.ISOLINUX, "x"), ArgumentEdit(("a",)))
    assert after == replaced(text, (b"vmlinuz\r\n", b"vmlinuz\r\n  append a\r\n"))


def test_a_default_that_is_a_command_line_counts() -> None:
    text = b"default vmlinuz initrd=i quiet\n"
    after = edit_arguments(parse(text, Kind.ISOLINUX, "x"), ArgumentEdit(("a",), ("quiet",)))
    assert after == b"default vmlinuz initrd=i a\n"


def test_isolinux_with_a_multiboot_kernel_is_refused() -> None:
    text = b"label xen\n kernel mboot.c32\n append xen.gz --- vmlinuz --- initrd\n"
    with pytest.raises(UnsupportedError, match="line 1"):
        edit_arguments(parse(text, Kind.ISOLINUX, "x"), ArgumentEdit(("a",)))


def test_grub_legacy_and_boot_loader_entries() -> None:
    legacy = parse(LEGACY, Kind.GRUB_LEGACY, "grub.conf")
    assert edit_arguments(legacy, ArgumentEdit(("a",), ("quiet",))) == replaced(LEGACY, (b"Node quiet", b"Node a"))
    entry = parse(BLS, Kind.BLS, "x.conf")
    assert entry.entries[0].arguments == ("root=live:x", "quiet")
    assert edit_arguments(entry, ArgumentEdit(("a",))) == replaced(BLS, (b"options quiet", b"options quiet a"))
    without = b"title x\nlinux /vmlinuz\ninitrd /i\n"
    assert edit_arguments(parse(without, Kind.BLS, "x"), ArgumentEdit(("a",))) == replaced(
        without, (b"/vmlinuz\n", b"/vmlinuz\noptions a\n")
    )


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        ("/isolinux/isolinux.cfg", b"", Kind.ISOLINUX),
        ("/isolinux/live.cfg", b"", Kind.ISOLINUX),
        ("/boot/x86_64/loader/isolinux.cfg", b"", Kind.ISOLINUX),
        ("/EFI/BOOT/grub.cfg", b"label x", Kind.GRUB),
        ("/boot/grub/loopback.cfg", b"", Kind.GRUB),
        ("/isolinux/grub.conf", LEGACY, Kind.GRUB_LEGACY),
        ("/EFI/BOOT/BOOTX64.conf", LEGACY, Kind.GRUB_LEGACY),
        ("/loader/entries/a.conf", b"", Kind.BLS),
        ("/etc/unrelated.conf", b"x = 1\n", None),
        ("/images/boot.img", b"", None),
    ],
)
def test_the_syntax_is_known_by_name_or_lines(path: str, data: bytes, kind: object) -> None:
    assert kind_of(path, data) is kind


def test_a_command_line_that_becomes_too_long_is_refused() -> None:
    text = b"label a\n kernel vmlinuz\n append root=x\n"
    edit = ArgumentEdit(tuple(f"argument{number}=0123456789" for number in range(100)))
    with pytest.raises(UnsupportedError, match="longer than 2047"):
        edit_arguments(parse(text, Kind.ISOLINUX, "x"), edit)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("text", [LORAX_GRUB, DEBIAN_GRUB, ISOLINUX, LEGACY, BLS, b"", b"'", b'"\\', b"linux"])
def test_every_text_is_read_and_an_edit_can_be_taken_back(kind: Kind, text: bytes) -> None:
    for end in range(0, len(text) + 1, 7):
        config = parse(text[:end], kind, "x")
        try:
            after = edit_arguments(config, ArgumentEdit(("zzz",)))
        except UnsupportedError:
            continue
        assert after.replace(b" zzz", b"").replace(b"zzz", b"").count(b"zzz") == 0
        again = parse(after, kind, "x")
        for entry in again.entries:
            assert "zzz" in entry.arguments or not config.entries
        assert edit_arguments(again, ArgumentEdit(("zzz",))) == after
