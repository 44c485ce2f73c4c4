"""From a specification to a bundle: what is derived, what is refused; nothing depends on the day or the place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from respin.bundle import create
from respin.errors import MalformedError, PolicyError, RespinError, UnsupportedError, UsageError
from tests.support.bundles import KERNEL, SPEC, BundleWorld, bundle_world, header_sha256
from tests.support.keys import KeyWorld


@pytest.fixture(scope="module")
def world(key_world: KeyWorld) -> BundleWorld:
    return bundle_world(key_world)


@pytest.fixture
def place(world: BundleWorld, tmp_path: Path) -> Path:
    """A copy of the specification and its files, to change."""
    shutil.copytree(world.path / "rpms", tmp_path / "rpms")
    shutil.copy(world.path / "README", tmp_path)
    (tmp_path / "exnic.toml").write_text(SPEC)
    return tmp_path


def packed(spec: Path, tmpdir: Path) -> bytes:
    draft = create(spec, tmpdir)
    target = tmpdir / "packed.tar"
    with target.open("wb") as file:
        draft.write(file.fileno())
    draft.bundle.close()
    return target.read_bytes()


def refused(place: Path, text: str, kind: "type[RespinError]", match: str) -> RespinError:
    (place / "exnic.toml").write_text(text)
    with pytest.raises(kind, match=match) as caught:
        create(place / "exnic.toml", place).bundle.close()
    assert type(caught.value) is kind
    return caught.value


def test_what_nobody_declared_is_derived_from_the_packages(world: BundleWorld) -> None:
    manifest: Dict[str, Any] = json.loads(world.members(world.unsigned)["manifest.json"])
    effects = manifest["effects"]
    owned = world.keys.run(["rpm", "-qpl", "--dbpath", str(world.path / "db"), *map(str, world.rpms)]).decode()
    assert sorted(effects["paths"]) == sorted(owned.split())
    assert effects["setuid"] == ["/usr/libexec/exagent/helper"]
    assert effects["capabilities"] == {"/usr/libexec/exagent/ping": "cap_net_raw=ep"}
    assert effects["kernel_modules"] == ["exnic"]
    scripts = {(one["nevra"], one["kind"]): one["sha256"] for one in effects["scriptlets"]}
    assert set(scripts) == {
        ("exagent-1.0-1.noarch", "prein"), ("exagent-1.0-1.noarch", "postin"), ("kmod-exnic-1.0-1.x86_64", "postin"),
    }  # fmt: skip
    body = world.keys.run(["rpm", "-qp", "--dbpath", str(world.path / "db"), "--qf", "%{POSTIN}", str(world.rpms[1])])
    assert scripts["kmod-exnic-1.0-1.x86_64", "postin"] == hashlib.sha256(body).hexdigest()
    assert manifest["target"]["architectures"] == ["x86_64"]


def test_the_members_are_the_files_and_the_manifest_names_them(world: BundleWorld) -> None:
    members = world.members(world.unsigned)
    manifest = json.loads(members.pop("manifest.json"))
    assert members == {"README": b"An example.\n", **{f"rpms/{rpm.name}": rpm.read_bytes() for rpm in world.rpms}}
    named = [(one["path"], one["size"], one["sha256"]) for one in manifest["files"]]
    assert named == [(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in members.items()]
    assert world.unsigned.name == "exnic-1.2-1.x86_64.plugin.tar"
    assert [one["header_sha256"] for one in manifest["rpms"]] == [header_sha256(rpm) for rpm in world.rpms]


def test_gnu_tar_would_pack_the_same_bytes(world: BundleWorld) -> None:
    assert world.pack(world.members(world.unsigned)) == world.unsigned.read_bytes()


def test_equal_inputs_give_equal_bytes(
    world: BundleWorld, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for file in [*place.rglob("*")]:
        os.utime(file, (1, 1))
        if file.is_file():
            file.chmod(0o600)
    renamed = place / "rpms" / "anything.rpm"
    (place / "rpms" / world.rpms[0].name).rename(renamed)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "deep"
    shutil.copytree(place, elsewhere)
    assert packed(elsewhere / "exnic.toml", elsewhere) == world.unsigned.read_bytes()


def test_no_private_copy_stays(place: Path) -> None:
    before = sorted(place.rglob("*"))
    create(place / "exnic.toml", place).bundle.close()
    assert sorted(place.rglob("*")) == before


def test_patterns_stand_for_the_paths_they_cover(place: Path) -> None:
    text = SPEC.replace("[effects]", f'[effects]\npaths = ["/usr/libexec/exagent/**", "/lib/modules/{KERNEL}/**"]')
    (place / "exnic.toml").write_text(text)
    draft = create(place / "exnic.toml", place)
    draft.bundle.close()
    assert draft.manifest.effects.paths == (
        "/etc/exagent.conf", f"/lib/modules/{KERNEL}/**", "/usr/bin/exagent", "/usr/lib/systemd/system/exagent.service",
        "/usr/libexec/exagent/**", "/usr/share/exagent", "/usr/share/exagent/link",
    )  # fmt: skip


def test_what_is_derived_may_be_said_and_then_it_must_be_true(place: Path) -> None:
    said = SPEC.replace("[effects]", '[effects]\nsetuid = ["/usr/libexec/exagent/helper"]')
    (place / "exnic.toml").write_text(said)
    create(place / "exnic.toml", place).bundle.close()
    error = refused(place, SPEC.replace("[effects]", "[effects]\nsetuid = []"), PolicyError, "helper")
    assert error.finding == "undeclared-effect"
    wrong = SPEC.replace("[effects]", '[effects]\nkernel_modules = ["exnic", "other"]')
    assert refused(place, wrong, PolicyError, "other").finding == "effect-mismatch"


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('name = "exnic"', "", "name is missing"),
        ('name = "exnic"', 'name = "a/b"', "name may not be"),
        ('name = "exnic"', "name = 7", "name is not"),
        ('vendor = "Example NIC Corporation"', "", "vendor is missing"),
        ('version = "1.2"', 'version = "1-2"', "version may not be"),
        ('version = "1.2"', "version = 1.2", "version is not"),
        ('arch = "x86_64"', "arch = []", "arch is not"),
        ("rpms = [", "colour = 1\nrpms = [", "colour is not a known key"),
        ("rpms/*.rpm", "none/*.rpm", "no file matches"),
        ("rpms/*.rpm", "/etc/*.rpm", "relative"),
        ("rpms/*.rpm", "**/*.rpm", "relative"),
        ('rpms = ["rpms/*.rpm"]', "rpms = []", "names no package"),
        ('rpms = ["rpms/*.rpm"]', 'rpms = "rpms/*.rpm"', "rpms is not a list"),
        ('readme_file = "README"', 'readme_file = "MISSING"', "cannot open"),
        ('readme_file = "README"', 'readme_file = "rpms"', "not a regular file"),
        ("[target]", "[aim]", "target is missing"),
        ("kernels", "kernel", "target.kernel is not a known key"),
        ('profiles = ["classic"]', "profiles = []", "no Node"),
        ('profiles = ["classic"]', "profiles = [1]", "is not a string"),
        ("at_least", "from", "target.versions.from is not a known key"),
        ("[effects]", "[effects]\ncapabilities = 1", "capabilities is not an object"),
        ("[effects]", "[effects]\nfoo = 1", "effects.foo is not a known key"),
        ("[effects]", "[effects]\nscriptlets = []", "effects.scriptlets is not a known key"),
        ("[effects]", '[effects]\npaths = ["/**"]', "too wide"),
        ('users = ["exagent"]', 'users = ["root"]', "root"),
        ('initrd_modules = ["exnic"]', 'initrd_modules = ["other"]', "kernel_modules"),
        ('"exnic.debug=1"', '"a b"', "kernel_arguments"),
        ("[target]", "[target", "not TOML"),
        ("[target]", "\x00", "not TOML"),
    ],
)
def test_what_is_wrong_with_a_specification_is_the_users_error(place: Path, old: str, new: str, match: str) -> None:
    assert old in SPEC
    error = refused(place, SPEC.replace(old, new, 1), UsageError, match)
    assert error.exit_code == 2
    assert str(place) in str(error)
    assert error.remedy


def test_a_unit_that_no_package_has_cannot_be_enabled(place: Path) -> None:
    error = refused(place, SPEC.replace("exagent.service", "sshd.service"), PolicyError, "sshd.service")
    assert error.finding == "effect-mismatch"


def test_a_specification_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(UsageError):
            create(path, tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="TOML"):
        create(tmp_path / "x.toml", tmp_path)


def test_a_foreign_package_is_unsupported(world: BundleWorld, place: Path) -> None:
    world.keys.build_rpm(place / "rpms", "foreign", arch="aarch64", files={"/usr/share/foreign/x": ""})
    error = refused(place, SPEC, UnsupportedError, "aarch64")
    assert (error.finding, error.exit_code) == ("foreign-arch", 7)
    refused(place, SPEC.replace('arch = "x86_64"', 'arch = "sparc"'), UnsupportedError, "sparc")


def test_two_files_of_one_package_are_refused(world: BundleWorld, place: Path) -> None:
    shutil.copy(world.rpms[0], place / "rpms" / "again.rpm")
    refused(place, SPEC, UsageError, "there twice")


def test_a_file_that_is_no_package_is_refused(place: Path) -> None:
    (place / "rpms" / "text.rpm").write_text("not a package, but long enough to have a lead" * 10)
    assert "text.rpm" in str(refused(place, SPEC, MalformedError, "not an RPM"))


@pytest.mark.parametrize(
    ("finding", "install", "files"),
    [
        ("volatile-path", "mkdir -p %{buildroot}/run/x", "/run/x"),
        ("world-writable", "mkdir -p %{buildroot}/opt/x", "%attr(0777,root,root) /opt/x"),
        ("device-node", "mkdir -p %{buildroot}/opt", "%dev(c,1,3) /opt/null"),
    ],
)
def test_a_package_with_what_no_plugin_may_have_is_refused(
    world: BundleWorld, place: Path, finding: str, install: str, files: str
) -> None:
    world.build("bad", install, files, out_dir=place / "rpms")
    assert refused(place, SPEC, PolicyError, "bad-1.0-1.noarch").finding == finding


def test_a_path_that_looks_like_a_pattern_needs_one(world: BundleWorld, place: Path) -> None:
    install = "mkdir -p %{buildroot}/opt/odd; echo x > '%{buildroot}/opt/odd/[id].js'"
    world.build("odd", install, "/opt/odd", out_dir=place / "rpms")
    assert refused(place, SPEC, PolicyError, "pattern").finding == "undeclared-effect"
    (place / "exnic.toml").write_text(SPEC.replace("[effects]", '[effects]\npaths = ["/opt/odd/**"]'))
    create(place / "exnic.toml", place).bundle.close()


def test_the_environment_does_not_matter(world: BundleWorld, place: Path) -> None:
    code = "import sys; from pathlib import Path; from respin.bundle import create; "
    code += "d = create(Path(sys.argv[1]), Path(sys.argv[2])); f = open(sys.argv[3], 'wb'); d.write(f.fileno())"
    for number, environment in enumerate(({"TZ": "Asia/Tokyo", "LC_ALL": "C"}, {"LC_ALL": "C.UTF-8", "HOME": "/x"})):
        out = place / f"out{number}"
        subprocess.run(
            [sys.executable, "-c", code, str(place / "exnic.toml"), str(place), str(out)],
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": str(number), **environment},
            check=True,
        )
        assert out.read_bytes() == world.unsigned.read_bytes()


def test_the_specification_in_the_documentation_works(world: BundleWorld, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "bundle.md").read_text()
    (tmp_path / "exnic.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    shutil.copytree(world.path / "rpms", tmp_path / "build")
    for name in ("README", "LICENSE"):
        (tmp_path / name).write_text("text\n")
    draft = create(tmp_path / "exnic.toml", tmp_path)
    draft.bundle.close()
    assert draft.manifest.after == ("vendor-base",)
    assert [member.name for member in draft.bundle.members][:3] == ["manifest.json", "LICENSE", "README"]
