"""Makes signed plugins of any behaviour for the example Node, and runs the respin command as a user would."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from tests.support import warm
from tests.support.keys import KeyWorld


@dataclass(frozen=True)
class Done:
    """A finished respin command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Dict[str, Any]:
        """The one document on standard output."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


def respin(
    *arguments: object, env: Optional[Mapping[str, str]] = None, cwd: Optional[Path] = None, cold: bool = False
) -> Done:
    """Run ``respin`` in a process of its own; whatever it says, it is never a traceback.

    ``env`` goes to a bare environment. With it, and where ``cold`` asks for it, the interpreter is started anew.
    """
    done = warm.run([str(one) for one in arguments], env, cwd, timeout=300, cold=cold)
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


class Forge:
    """Plugins and vendor signatures by the keys of a :class:`KeyWorld`, for one stock ISO."""

    def __init__(self, keys: KeyWorld, iso: Path, path: Path, profile: str = "example-node") -> None:
        self.profile = profile
        self.keys = keys
        self.iso = iso
        self.path = path
        self._count = 0
        self.checksum = self.vendor_checksum("base")

    def vendor_checksum(self, key: str) -> Path:
        """A CHECKSUM file for the ISO, clearsigned by a key of the key world."""
        line = subprocess.run(
            ["sha256sum", "--tag", self.iso.name], cwd=self.iso.parent, capture_output=True, check=True
        )
        file = self.path / f"CHECKSUM.{key}"
        file.write_bytes(self.keys.clearsign(key, line.stdout))
        return file

    def rpm(self, name: str, *, rpm_key: str = "rpm", **fields: Any) -> Path:
        """A signed RPM in a directory of its own; ``fields`` as for :meth:`KeyWorld.build_rpm`."""
        self._count += 1
        directory = self.path / f"rpm{self._count}"
        directory.mkdir()
        return self.keys.sign_rpm(self.keys.build_rpm(directory, name, **fields), rpm_key)

    def bundle(
        self,
        rpms: Sequence[Path],
        name: str = "plugin",
        *,
        effects: str = "",
        extra: str = "",
        target: str = "",
        arch: str = "noarch",
        key: str = "plugin",
    ) -> Path:
        """A signed bundle of these RPMs, through the commands that its maker would use."""
        self._count += 1
        directory = self.path / f"bundle{self._count}"
        directory.mkdir()
        spec = directory / "spec.toml"
        listed = ", ".join(f'"{os.path.relpath(rpm, directory)}"' for rpm in rpms)
        spec.write_text(
            f'name = "{name}"\nversion = "1"\nrelease = "1"\narch = "{arch}"\nvendor = "Test"\nsummary = "A test"\n'
            f'license = "Apache-2.0"\nrpms = [{listed}]\n{extra}\n[target]\nprofiles = ["{self.profile}"]\n{target}\n'
            f"[effects]\n{effects}\n"
        )
        made = respin("bundle", "create", spec, "-o", directory)
        assert made.code == 0, made.err
        bundle = next(directory.glob("*.plugin.tar"))
        signed = respin(
            "bundle", "sign", bundle, "--key", self.keys.fingerprints[key], "--gnupg-home", self.keys.gnupg_home
        )
        assert signed.code == 0, signed.err
        return bundle

    def plugin(self, name: str = "plugin", *, effects: str = "", **fields: Any) -> Path:
        """A signed bundle around one new RPM."""
        rpm = self.rpm(name, **fields)
        return self.bundle([rpm], name, effects=effects, arch=fields.get("arch", "noarch"))

    def build(self, output: Path, *plugins: Path, **options: Any) -> Done:
        """``respin build`` with everything right but what ``options`` (by option name, None: left out) change."""
        env = options.pop("env", None)
        return respin(*self.build_arguments(output, *plugins, **options), env=env)

    def build_arguments(self, output: Path, *plugins: Path, **options: Any) -> List[object]:
        """What :meth:`build` runs."""
        arguments: Dict[str, Any] = {
            "base": self.iso,
            "base_checksum": self.checksum,
            "trust": self.keys.trust,
            "sign_key": self.keys.fingerprints["respin"],
            "gnupg_home": self.keys.gnupg_home,
            "output": output,
            **options,
        }
        command: List[object] = ["build"]
        for option, value in arguments.items():
            if value is True:
                command.append("--" + option.replace("_", "-"))
            elif value is not None:
                for one in value if isinstance(value, list) else [value]:
                    command += ["--" + option.replace("_", "-"), one]
        for plugin in plugins:
            command += ["--plugin", plugin]
        return command

    def verify(self, iso: Path, **options: Any) -> Done:
        """``respin verify`` with the trust store, and with the stock ISO unless ``base=None``."""
        arguments: Dict[str, Any] = {"base": self.iso, "trust": self.keys.trust, **options}
        command: List[object] = ["verify", iso, "--json"]
        for option, value in arguments.items():
            if value is not None:
                command += ["--" + option.replace("_", "-"), value]
        return respin(*command)
