"""A world of throw-away keys: one good key for each role, and keys that are wrong in exactly one way.

GnuPG, rpmbuild and rpmsign make everything here; nothing of respin does, so that they stay independent oracles.

=========  =========================================================================================
name       what it is
=========  =========================================================================================
base       role base, good
plugin     role plugin, good
rpm        role rpm, good (also what :meth:`KeyWorld.sign_rpm` uses)
respin     role respin, good
expired    expired in 2021; signatures of it are made in 2020; in the trust store with roles plugin and rpm
revoked    its owner revoked it; in the trust store with roles plugin and rpm
weak       1024-bit RSA; in the trust store with roles plugin and rpm
subkey     certifies only, a subkey signs; in the trust store with roles plugin and rpm
scoped     good, but its scope is ``only-this*``; in the trust store with roles plugin and rpm
unknown    good, but in no trust store
=========  =========================================================================================
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Union

ROLES = ("base", "plugin", "rpm", "respin")
ODD = ("expired", "revoked", "weak", "subkey", "scoped")
LONG_AGO = "20200601T120000"


class KeyWorld:
    """Keys, a loadable trust store and the tools to sign with them; see the module's text for the names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gnupg_home = path / "gnupg"
        self.gnupg_home.mkdir(mode=0o700)
        self.trust = path / "trust"
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(path),
        }  # fmt: skip
        self.fingerprints: Dict[str, str] = {}
        for name in (*ROLES, "revoked", "scoped", "unknown"):
            self._make(name, "rsa2048")
        self._make("weak", "rsa1024")
        self._make("subkey", "rsa2048", usage="cert")
        self._gpg_generate("--quick-add-key", self.fingerprints["subkey"], "rsa2048", "sign", "0")
        self._make("expired", "rsa2048", expire="20210101T000000", extra=["--faked-system-time", LONG_AGO])
        self._public = {name: self.gpg("--armor", "--export", fpr) for name, fpr in self.fingerprints.items()}
        self._public["revoked"] = self._revoke("revoked")
        self.make_store(self.trust, {**{role: [role] for role in ROLES}, **{name: ["plugin", "rpm"] for name in ODD}})

    def _make(
        self, name: str, algorithm: str, *, usage: str = "sign", expire: str = "0", extra: Sequence[str] = ()
    ) -> None:
        user = f"TEST {name} key <{name}@test.example>"
        self._gpg_generate(*extra, "--quick-generate-key", user, algorithm, usage, expire)
        listing = self.gpg("--with-colons", "--list-keys", f"={user}").decode()
        self.fingerprints[name] = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))

    def _gpg_generate(self, *arguments: str) -> None:
        self.gpg("--passphrase", "", "--pinentry-mode", "loopback", *arguments)

    def _revoke(self, name: str) -> bytes:
        """The public key with its revocation; the key in ``gnupg_home`` stays usable."""
        scratch = self.path / "revoking"
        scratch.mkdir(mode=0o700)
        prepared = self.gnupg_home / "openpgp-revocs.d" / f"{self.fingerprints[name]}.rev"
        certificate = prepared.read_text().replace(":-----BEGIN", "-----BEGIN")
        for data in (self._public[name], certificate.encode()):
            self.gpg("--no-autostart", "--import", data=data, home=scratch)
        return self.gpg("--no-autostart", "--armor", "--export", self.fingerprints[name], home=scratch)

    def gpg(self, *arguments: str, data: Optional[bytes] = None, home: Optional[Path] = None) -> bytes:
        """Standard output of ``gpg`` with these arguments on the world's home."""
        command = ["gpg", "--homedir", str(home or self.gnupg_home), "--batch", "--yes", "--no-tty", "--quiet"]
        return self.run([*command, *arguments], data=data)

    def run(self, command: Sequence[str], *, data: Optional[bytes] = None) -> bytes:
        """Standard output of a program that must succeed."""
        done = subprocess.run(
            command,
            env=self._environment,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def public(self, name: str) -> bytes:
        """The armored public key ``name``."""
        return self._public[name]

    def make_store(self, path: Path, roles: Mapping[str, Sequence[str]], **fields: object) -> Path:
        """Write a trust store: key name -> roles. ``fields`` as ``allow_expired=True`` go into every entry."""
        text = ["version = 1"]
        for name, wanted in roles.items():
            for role in wanted:
                scope = '["only-this*"]' if name == "scoped" else '["*"]'
                text += ["[[key]]", f'fingerprint = "{self.fingerprints[name]}"', f'role = "{role}"']
                text += ['tier = "partner"', f"scope = {scope}"]
                text += [f"{field.replace('_', '-')} = {str(value).lower()}" for field, value in fields.items()]
                file = path / role / f"{self.fingerprints[name]}.asc"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.public(name))
        (path / "policy.toml").write_text("\n".join(text) + "\n")
        return path

    def detach_sign(self, name: str, data: bytes, *options: str) -> bytes:
        """An armored detached signature, SHA-256 unless ``options`` say otherwise."""
        return self._sign(name, "--detach-sign", data, options)

    def clearsign(self, name: str, data: bytes, *options: str) -> bytes:
        """A clearsigned text."""
        return self._sign(name, "--clearsign", data, options)

    def _sign(self, name: str, how: str, data: bytes, options: Sequence[str]) -> bytes:
        when = ["--faked-system-time", LONG_AGO] if name == "expired" else []
        digest = [] if "--digest-algo" in options else ["--digest-algo", "SHA256"]
        arguments = [*when, *digest, *options, "--local-user", self.fingerprints[name], "--armor", how]
        return self.gpg(*arguments, data=data)

    def sign_rpm(self, path: Path, name: str = "rpm", *, digest: str = "sha256", v3: bool = False) -> Path:
        """Sign an RPM in place with rpmsign; ``v3`` adds signatures over header and payload."""
        extra = f"--faked-system-time {LONG_AGO}" if name == "expired" else "--quiet"
        defines = {
            "_gpg_path": str(self.gnupg_home), "_gpg_name": self.fingerprints[name], "__gpg": "/usr/bin/gpg",
            "_gpg_digest_algo": digest, "_gpg_sign_cmd_extra_args": extra,
        }  # fmt: skip
        options = [part for key, value in defines.items() for part in ("--define", f"{key} {value}")]
        self.run(["rpmsign", *options, "--addsign", *(["--rpmv3"] if v3 else []), str(path)])
        return path

    def build_rpm(
        self,
        out_dir: Path,
        name: str = "tiny",
        *,
        version: str = "1.0",
        release: str = "1",
        arch: str = "noarch",
        files: Optional[Mapping[str, Union[str, bytes]]] = None,
        preamble: str = "",
        sections: str = "",
        defines: Optional[Mapping[str, str]] = None,
        directives: Optional[Mapping[str, str]] = None,
    ) -> Path:
        """Build an unsigned RPM with these ``files`` (path -> content).

        ``directives`` (path -> ``%ghost``) stand before paths in the list of files.

        ``preamble`` takes header lines (``Requires: x``), ``sections`` whole sections (``%post`` with its script).
        """
        contents = dict(files) if files is not None else {f"/usr/share/{name}/data": "some data\n"}
        work = out_dir / f"build-{name}-{version}-{release}"
        sources = work / "SOURCES"
        sources.mkdir(parents=True)
        install: List[str] = []
        for number, (target, content) in enumerate(contents.items()):
            (sources / f"file{number}").write_bytes(content if isinstance(content, bytes) else content.encode())
            install.append(f"install -D -m 0644 {sources}/file{number} '%{{buildroot}}{target}'")
        spec = work / f"{name}.spec"
        spec.write_text(
            f"Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: A test package\nLicense: Apache-2.0\n"
            + (f"BuildArch: {arch}\n" if arch == "noarch" else "")
            + f"{preamble}\n%description\nFor tests.\n%install\nmkdir -p %{{buildroot}}\n"
            + "\n".join(install)
            + f"\n{sections}\n%files\n"
            + "\n".join(f'{(directives or {}).get(target, "")} "{target}"' for target in contents)
            + "\n"
        )
        settings = {
            "_topdir": str(work), "_rpmdir": str(out_dir), "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
            "_dbpath": str(work / "db"), "debug_package": "%{nil}", "_buildhost": "build.test.example",
            "__os_install_post": "%{nil}", "use_source_date_epoch_as_buildtime": "1", **(defines or {}),
        }  # fmt: skip
        options = [part for key, value in settings.items() for part in ("--define", f"{key} {value}")]
        self.run(["rpmbuild", "-bb", "--quiet", "--target", arch, *options, str(spec)])
        return out_dir / f"{name}-{version}-{release}.{arch}.rpm"

    def close(self) -> None:
        """End the agent of the world's home."""
        self.run(["gpgconf", "--homedir", str(self.gnupg_home), "--kill", "all"])
