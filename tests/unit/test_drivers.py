"""Kernel modules as files, and what a root says of its kernel; kmod and the kernel's own sign-file are the oracles."""

from __future__ import annotations

import gzip
import lzma
import os
import random
import subprocess
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Dict, Iterator, List

import pytest

from respin.byteview import FileView
from respin.errors import MalformedError, RespinError
from respin.formats import lspci
from respin.formats.kernelmodule import KernelModule, module_name, read_module
from respin.formats.modulesignature import signer
from respin.formats.squashfs.root import SquashfsRoot
from respin.node.devices import pci_aliases, takers
from respin.node.kernelfacts import KernelFacts
from respin.policy.drivers import Driver, judge_drivers
from tests.support.modules import Modules, compile_modules, with_other_crc

SIGN_FILE = Path("/usr/lib/linux-kbuild-6.1/scripts/sign-file")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    headers = sorted(path.name for path in Path("/usr/src").glob("linux-headers-*-amd64"))
    if not headers:
        pytest.skip("no kernel headers")
    return compile_modules(headers[0][len("linux-headers-") :], tmp_path_factory.mktemp("modules"))


def modinfo(path: Path, field: str) -> List[str]:
    done = subprocess.run(["/sbin/modinfo", "-F", field, path], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_module_says_what_kmod_says_of_it(modules: Modules, tmp_path: Path) -> None:
    for content in (modules.base, modules.user, modules.firmware):
        path = tmp_path / "module.ko"
        path.write_bytes(content)
        module = read_module(content, str(path), "x")
        dumped = subprocess.run(
            ["/sbin/modprobe", "--dump-modversions", path], capture_output=True, text=True, check=True
        ).stdout
        expected = {name: int(crc, 16) for crc, name in (line.split("\t") for line in dumped.splitlines())}
        assert module.versions == expected
        assert list(module.firmware) == modinfo(path, "firmware")
        assert list(module.aliases) == modinfo(path, "alias")
        assert [module.name] == modinfo(path, "name")
    base = read_module(modules.base, "testbase.ko", "x")
    assert base.exports == {"testbase_hello": read_module(modules.user, "u.ko", "x").versions["testbase_hello"]}


@pytest.mark.parametrize("suffix", [".ko", ".ko.gz", ".ko.xz", ".ko.zst"])
def test_a_compressed_module_is_the_same(modules: Modules, suffix: str) -> None:
    packed = {
        ".ko": lambda data: data,
        ".ko.gz": gzip.compress,
        ".ko.xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
        ".ko.zst": lambda data: pytest.importorskip("zstandard").compress(data),
    }[suffix](modules.base)
    assert read_module(packed, f"/x/testbase{suffix}", "x") == read_module(modules.base, "/x/testbase.ko", "x")
    assert module_name(f"/x/test-base{suffix}") == "test_base"


def test_a_damaged_module_gives_a_typed_error_or_a_module(modules: Modules) -> None:
    rng = random.Random(7)
    for _ in range(1500):
        content = bytearray(modules.user)
        for _ in range(rng.randint(1, 6)):
            at = rng.choice((rng.randrange(64), rng.randrange(len(content)), len(content) - 1 - rng.randrange(3000)))
            content[at] = rng.randrange(256)
        cut = bytes(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)
        with suppress(RespinError):
            assert isinstance(read_module(cut, "m.ko", "m"), KernelModule)


@pytest.mark.parametrize("suffix", [".ko.gz", ".ko.xz", ".ko.zst"])
def test_what_is_not_compressed_as_it_is_called_is_malformed(modules: Modules, suffix: str) -> None:
    pytest.importorskip("zstandard")
    with pytest.raises(MalformedError):
        read_module(modules.base, f"m{suffix}", "m")


@pytest.mark.skipif(not SIGN_FILE.exists(), reason="no sign-file")
def test_the_signer_is_the_one_that_kmod_names(modules: Modules, tmp_path: Path) -> None:
    key, certificate, path = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "signed.ko"
    subprocess.run(
        ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Test/CN=Module vendor",
         "-keyout", key, "-out", certificate, "-days", "30"], check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(modules.base)
    subprocess.run([SIGN_FILE, "sha256", key, certificate, path], check=True)
    module = read_module(path.read_bytes(), "testbase.ko", "x")
    found = signer(module.signature)
    assert found is not None
    assert [found.issuer] == modinfo(path, "signer")
    assert [":".join(found.key[i : i + 2].upper() for i in range(0, len(found.key), 2))] == modinfo(path, "sig_key")
    assert module.versions == read_module(modules.base, "testbase.ko", "x").versions
    for end in range(len(module.signature)):
        signer(module.signature[:end])  # never fails


@pytest.fixture
def root(modules: Modules, tmp_path: Path) -> Iterator[SquashfsRoot]:
    """A root whose vendor ships the kernel's list of symbols, one firmware file and one module."""
    tree = tmp_path / "tree"
    directory = tree / "usr/lib/modules" / modules.release
    (directory / "kernel").mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    (tree / "usr/lib/firmware/test").mkdir(parents=True)
    (tree / "usr/lib/firmware/test/one.bin.xz").write_bytes(b"x")
    with gzip.open(directory / "symvers.gz", "wb") as stream:
        stream.write((modules.headers / "Module.symvers").read_bytes())
    (directory / "kernel/vendor.ko").write_bytes(modules.firmware)
    (directory / "modules.builtin").write_text("kernel/drivers/built-in.ko\n")
    image = tmp_path / "root.squashfs"
    subprocess.run(["mksquashfs", tree, image, "-quiet", "-no-progress", "-all-root"], check=True)
    fd = os.open(image, os.O_RDONLY)
    yield SquashfsRoot.open(FileView(fd, str(image)))
    os.close(fd)


def judge(root: SquashfsRoot, release: str, **contents: bytes) -> Dict[str, List[str]]:
    plan = SimpleNamespace(node=SimpleNamespace(root=root), files={})
    drivers = [
        Driver(
            f"/lib/modules/{release}/extra/{name}.ko", release, name, read_module(data, f"{name}.ko", name), False, ()
        )
        for name, data in contents.items()
    ]
    judged = judge_drivers(plan, drivers)  # type: ignore[arg-type]
    return {one.driver.nevra: [finding.id for finding in one.findings] for one in judged}


def test_a_list_of_symbols_is_read_and_decides(modules: Modules, root: SquashfsRoot) -> None:
    facts = KernelFacts(root, modules.release)
    lines = (modules.headers / "Module.symvers").read_text().splitlines()
    assert facts.symvers == {line.split("\t")[1]: int(line.split("\t")[0], 16) for line in lines}
    assert facts.builtin == {"built_in"}
    assert facts.firmware("test/one.bin") == "/lib/firmware/test/one.bin.xz"
    good = judge(root, modules.release, testbase=modules.base, testuser=modules.user, testfirmware=modules.firmware)
    assert good == {"testbase": [], "testuser": [], "testfirmware": []}
    assert judge(root, modules.release, testbase=with_other_crc(modules.base, "_printk")) == {
        "testbase": ["symbol-crc"]
    }
    alone = judge(root, modules.release, testuser=modules.user)
    assert alone == {"testuser": ["symbol-missing", "module-dependency"]}


def test_a_device_goes_to_the_modules_whose_alias_fits() -> None:
    (nic,) = lspci.parse("0000:00:05.0 Ethernet controller [0200]: Example [dead:beef] (rev 01)\n", "x")
    aliases = list(
        pci_aliases(
            [
                ("pci:v0000DEADd0000BEEFsv*sd*bc*sc*i*", "by-number"),
                ("pci:v*d*sv*sd*bc02sc00i*", "by_class"),
                ("pci:v0000DEADd0000BEEFsv00001234sd*bc*sc*i*", "by_subsystem"),
                ("pci:v0000DEADd00000001sv*sd*bc*sc*i*", "other"),
                ("usb:v0000DEADd0000BEEF", "usb"),
            ]
        )
    )
    assert [(one.name, one.certain) for one in takers(nic, aliases)] == [
        ("by_class", True),
        ("by_number", True),
        ("by_subsystem", False),
    ]
