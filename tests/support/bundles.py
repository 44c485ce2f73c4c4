"""A valid world of bundles: two RPMs with every kind of effect, a specification, a bundle, a signed bundle.

respin makes the bundle once; from then on tests take it apart and put it together with GNU tar, GnuPG and Python's
tarfile and json, so that what they change is exactly what they say.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from respin.bundle import create
from tests.support.keys import KeyWorld

KERNEL = "6.1.0-18-amd64"
GNU_TAR = (
    "tar", "--format=ustar", "-b1", "--mode=0644", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0",
)  # fmt: skip

AGENT_FILES = """\
%attr(0755,root,root) /usr/bin/exagent
%attr(4755,root,root) /usr/libexec/exagent/helper
%attr(0755,root,root) %caps(cap_net_raw=ep) /usr/libexec/exagent/ping
%attr(0644,root,root) /usr/lib/systemd/system/exagent.service
%dir %attr(0755,root,root) /usr/share/exagent
%config(noreplace) %attr(0640,root,exagent) /etc/exagent.conf
/usr/share/exagent/link
"""
AGENT_INSTALL = """\
for file in usr/bin/exagent usr/libexec/exagent/helper usr/libexec/exagent/ping etc/exagent.conf \\
    usr/lib/systemd/system/exagent.service; do
    install -D /dev/null %{buildroot}/$file
    echo "content of $file" > %{buildroot}/$file
done
mkdir -p %{buildroot}/usr/share/exagent
ln -s ../../bin/exagent %{buildroot}/usr/share/exagent/link
"""
AGENT_SCRIPTS = """\
%pre
getent passwd exagent >/dev/null || useradd -r exagent
%post
systemctl enable exagent.service
"""
SPEC = f"""\
name = "exnic"
version = "1.2"
release = "1"
arch = "x86_64"
vendor = "Example NIC Corporation"
summary = "Driver and agent for Example NICs"
license = "GPL-2.0-only AND Apache-2.0"
rpms = ["rpms/*.rpm"]
readme_file = "README"
conflicts = ["othernic*"]

[target]
profiles = ["classic"]
products = ["Example Node"]
versions = {{ at_least = "1.0", below = "2.0" }}
kernels = ["{KERNEL}"]

[effects]
units = ["exagent.service"]
users = ["exagent"]
groups = ["exagent"]
initrd_modules = ["exnic"]
kernel_arguments = ["exnic.debug=1"]
accepts_unmet = ["kernel(exnic_symbol) = 0x1"]
"""

Members = Dict[str, bytes]


@functools.cache
def bundle_world(keys: KeyWorld) -> "BundleWorld":
    """The world of these keys, built once however many test modules ask for it."""
    path = keys.path / "bundles"
    path.mkdir()
    return BundleWorld(keys, path)


class BundleWorld:
    """``unsigned`` and ``signed`` are the bundle's files, ``spec`` and ``rpms`` what they were made from."""

    def __init__(self, keys: KeyWorld, path: Path) -> None:
        self.keys = keys
        self.path = path
        self.trust = keys.trust
        (path / "rpms").mkdir()
        driver = keys.build_rpm(
            path / "rpms",
            "kmod-exnic",
            arch="x86_64",
            files={f"/lib/modules/{KERNEL}/extra/exnic.ko": "not really a module\n"},
            sections="%post\ndepmod -a\n",
        )
        agent = self.build("exagent", AGENT_INSTALL, AGENT_FILES, AGENT_SCRIPTS, out_dir=path / "rpms")
        self.rpms = [keys.sign_rpm(agent), keys.sign_rpm(driver)]
        (path / "README").write_text("An example.\n")
        self.spec = path / "exnic.toml"
        self.spec.write_text(SPEC)
        draft = create(self.spec, path)
        self.unsigned = path / draft.manifest.file_name
        with self.unsigned.open("wb") as file:
            draft.write(file.fileno())
        draft.bundle.close()
        self.signed = path / "signed.plugin.tar"
        self.signed.write_bytes(self.pack(self.sign(self.members(self.unsigned))))

    def build(
        self, name: str, install: str, files: str, scripts: str = "", *, arch: str = "noarch", out_dir: Path
    ) -> Path:
        """An unsigned RPM from the text of its %install and %files sections."""
        work = out_dir.parent / f"build-{name}"
        work.mkdir()
        preamble = f"Name: {name}\nVersion: 1.0\nRelease: 1\nSummary: A test package\nLicense: Apache-2.0\n"
        preamble += "AutoReqProv: no\n" + ("BuildArch: noarch\n" if arch == "noarch" else "")
        spec = work / f"{name}.spec"
        spec.write_text(f"{preamble}\n%description\nFor tests.\n%install\n{install}\n{scripts}\n%files\n{files}\n")
        settings = {
            "_topdir": str(work), "_rpmdir": str(out_dir), "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
            "_dbpath": str(work / "db"), "debug_package": "%{nil}", "__os_install_post": "%{nil}",
        }  # fmt: skip
        options = [part for key, value in settings.items() for part in ("--define", f"{key} {value}")]
        self.keys.run(["rpmbuild", "-bb", "--quiet", "--target", arch, *options, str(spec)])
        return out_dir / f"{name}-1.0-1.{arch}.rpm"

    @staticmethod
    def members(bundle: Path) -> Members:
        """The members of a bundle, read by Python's tarfile."""
        with tarfile.open(bundle) as tar:
            return {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar}

    def pack(self, members: Mapping[str, bytes]) -> bytes:
        """The members packed by GNU tar in the order of the mapping."""
        work = self.path / f"pack-{os.urandom(4).hex()}"
        for name, data in members.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(data)
        done = subprocess.run([*GNU_TAR, "-cf", "-", *members], cwd=work, check=True, capture_output=True)
        return done.stdout

    def sign(self, members: Members, key: str = "plugin") -> Members:
        """The members with a signature by GnuPG over the manifest, in their canonical order."""
        signature = self.keys.detach_sign(key, members["manifest.json"])
        rest = {name: data for name, data in members.items() if name not in ("manifest.json", "manifest.json.asc")}
        return {"manifest.json": members["manifest.json"], "manifest.json.asc": signature, **rest}

    def changed(
        self,
        change: Callable[[Dict[str, Any]], object] = lambda manifest: None,
        files: Optional[Mapping[str, bytes]] = None,
        *,
        key: str = "plugin",
    ) -> bytes:
        """The signed bundle with another manifest and other ``files``, well packed and well signed by ``key``.

        The manifest names the new files rightly; ``change`` gets it last.
        """
        members = self.members(self.unsigned)
        manifest = json.loads(members["manifest.json"])
        for name, data in (files or {}).items():
            members[name] = data
            self._rename(manifest, name, data)
        change(manifest)
        members["manifest.json"] = spell(manifest)
        return self.pack(self.sign(members, key))

    def changed_file(self, change: Callable[[Dict[str, Any]], object]) -> Path:
        """As :meth:`changed`, in a file."""
        path = self.path / f"changed-{os.urandom(4).hex()}.plugin.tar"
        path.write_bytes(self.changed(change))
        return path

    @staticmethod
    def _rename(manifest: Dict[str, Any], name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        for entry in (*manifest["files"], *manifest["rpms"]):
            if entry["path"] == name:
                entry["sha256"] = digest
                if "size" in entry:
                    entry["size"] = len(data)
                elif data.startswith(b"\xed\xab\xee\xdb"):
                    with tempfile.NamedTemporaryFile() as file:
                        Path(file.name).write_bytes(data)
                        entry["header_sha256"] = header_sha256(Path(file.name))


def header_sha256(package: Path) -> str:
    """The SHA-256 of a package's main header, as rpm prints it."""
    query = ("rpm", "-qp", "--nosignature", "--nodigest", "--qf", "%{SHA256HEADER}", package)
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout


def spell(manifest: Any) -> bytes:
    """A manifest in its canonical spelling, by Python's json."""
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def offsets(archive: bytes) -> Dict[str, Sequence[int]]:
    """Where each member's content starts and ends."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {info.name: (info.offset_data, info.offset_data + info.size) for info in tar}
