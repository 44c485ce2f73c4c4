"""The sandbox as a thing that has to vanish, and that works alike for root and for an ordinary user."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from respin.root.probe import probe
from tests.support.keys import KeyWorld
from tests.support.roots import Installer, NodeImage, Packages, SharedNode, blocks, descendants, unprivileged

CHECKOUT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Runs an installation of the packages that a file names and prints the digest of every changed block.
SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from respin.errors import RespinError
from tests.support.roots import Installer, NodeImage, blocks
job = json.loads(Path(sys.argv[1]).read_text())
node = NodeImage(*map(Path, job["node"]), job["size"])
try:
    done = Installer(Path(job["tmp"]), node, [Path(job["key"]).read_bytes()]).run([Path(p) for p in job["rpms"]])
except RespinError as error:
    print(json.dumps({"error": error.finding, "what": str(error), "remedy": error.remedy, "code": error.exit_code}))
else:
    print(json.dumps({str(i): hashlib.sha256(data).hexdigest() for i, data in blocks(done).items()}))
"""


@pytest.fixture(scope="module")
def node(shared_node: SharedNode) -> NodeImage:
    return shared_node[1]


@pytest.fixture(scope="module")
def packages(key_world: KeyWorld, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages(key_world, tmp_path_factory.mktemp("packages"))


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="respin-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def write_job(directory: Path, node: NodeImage, rpms: List[Path], key: bytes) -> "list[str]":
    """The command line of an installation as a process of its own."""
    tmp = directory / "tmp"
    tmp.mkdir()
    iso = Path(shutil.copy(node.iso, directory / "node.iso"))
    copies = [shutil.copy(rpm, directory / rpm.name) for rpm in rpms]
    (directory / "key.asc").write_bytes(key)
    for path in (iso, *copies, directory / "key.asc"):
        os.chmod(path, 0o644)
    job = {
        "node": [str(iso), "", ""], "size": node.squashfs_size, "tmp": str(tmp), "rpms": [str(c) for c in copies],
        "key": str(directory / "key.asc"),
    }  # fmt: skip
    (directory / "job.json").write_text(json.dumps(job))
    return [sys.executable, "-c", SCRIPT, str(directory / "job.json")]


def run_job(argv: "list[str]") -> "dict[str, str]":
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def mixed(packages: Packages) -> Path:
    """A package with owners, capabilities and scriptlets."""
    return packages.build(
        "mixed",
        install="""cd %{buildroot}; mkdir -p opt/mixed usr/bin
for i in $(seq 50); do echo $i >opt/mixed/$i; done; echo x >usr/bin/mixed""",
        files="%attr(0750, svc, svc) /opt/mixed\n%caps(cap_net_raw=ep) /usr/bin/mixed",
        sections="""%pre
echo 'svc:x:990:990::/:/bin/false' >>/etc/passwd; echo 'svc:x:990:' >>/etc/group
%post
env | sort >/opt/env; id >>/opt/env; chown nobody:nogroup /usr/share/vendor/deep/file1""",
    )


@needs_root
def test_ordinary_user_gets_the_same_bytes(
    node: NodeImage, mixed: Path, key_world: KeyWorld, tmp_path: Path, public: Path
) -> None:
    as_root = Installer(tmp_path, node, [key_world.public("rpm")]).run([mixed])
    expected = {str(i): hashlib.sha256(data).hexdigest() for i, data in blocks(as_root).items()}
    argv = write_job(public, node, [mixed], key_world.public("rpm"))
    os.chown(public / "tmp", 64321, 64321)
    assert run_job(unprivileged(argv, uid=64321, directory=public / "namespace")) == expected
    assert list((public / "tmp").iterdir()) == [public / "tmp" / "scratch"]
    assert not list((public / "tmp" / "scratch").iterdir())


@needs_root
def test_user_without_subordinate_ids(node: NodeImage, mixed: Path, key_world: KeyWorld, public: Path) -> None:
    argv = write_job(public, node, [mixed], key_world.public("rpm"))
    os.chown(public / "tmp", 64321, 64321)
    said = run_job(unprivileged(argv, uid=64321, directory=public / "namespace", subordinate=False))
    assert (said["error"], said["code"]) == ("no-subordinate-ids", 5)
    assert "usermod --add-subuids" in said["remedy"]
    assert "respintest" in said["remedy"]


@pytest.mark.parametrize("victim", ["starter", "outer", "init"])
def test_killed(victim: str, node: NodeImage, packages: Packages, key_world: KeyWorld, public: Path) -> None:
    """Whoever is killed, nothing runs on, nothing stays mounted, no file stays."""
    rpm = packages.out / "waiting.rpm"
    if not rpm.exists():
        packages.build("waiting", sections="%post\nsetsid sleep 100 &\nsleep 100")
    argv = write_job(public, node, [rpm], key_world.public("rpm"))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(argv, env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    family: List[int] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = list(descendants(process.pid))
        names = [_name(pid) for pid in family]
        if names.count("sleep") == 2:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the scriptlet never ran")
    os.kill({"starter": process.pid, "outer": family[0], "init": family[1]}[victim], signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    if victim != "starter":
        assert json.loads(said)["error"] == "sandbox-failed"
    deadline = time.monotonic() + 10
    while any(_name(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [_name(pid) for pid in family if _name(pid)] == []
    assert str(public) not in Path("/proc/self/mountinfo").read_text()  # other tests mount elsewhere meanwhile
    assert not list((public / "tmp/scratch").iterdir())


def test_processes_that_ended_have_no_descendants() -> None:
    """What the tests above look for may end while they look."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert list(descendants(ended.pid)) == []


def _name(pid: int) -> str:
    """The name of a running process, empty if there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if "\nState:\tZ" in status else status.split()[1]


def test_interrupted_while_judging(node: NodeImage, mixed: Path, key_world: KeyWorld, tmp_path: Path) -> None:
    before = set(descendants(os.getpid()))  # other tests' servers
    families: List[int] = []

    def judge(delta: object) -> None:
        families.extend(set(descendants(os.getpid())) - before)
        raise KeyboardInterrupt

    installer = Installer(tmp_path, node, [key_world.public("rpm")])
    with pytest.raises(KeyboardInterrupt):
        installer.run([mixed], judge)
    assert families
    assert [pid for pid in families if _name(pid)] == []
    assert not list(installer.scratch.iterdir())


def test_probe(tmp_path: Path) -> None:
    found = {capability.name: capability for capability in probe(tmp_path)}
    assert found["rpm bindings"].ok
    assert found["namespaces"].ok
    assert found["mounts in a namespace"].ok
    assert not list(tmp_path.iterdir())
    assert all(capability.remedy for capability in found.values() if not capability.ok)
