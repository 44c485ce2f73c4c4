"""A small Node root that runs scriptlets, in an image nested in a squashfs inside a file that plays the ISO.

The root is put together from programs of the machine that runs the tests and the libraries they need. Its rpm database
is made by rpm itself, with one vendor package in it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import stat
import subprocess
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Sequence, Tuple

from respin.root import syscalls
from respin.root.delta import Delta
from respin.root.install import Installed, InstallJob, PackageFile, install
from tests.support.images import EPOCH, build_ext, build_squashfs, run
from tests.support.keys import KeyWorld
from tests.support.quickstart import CHECKOUT

JOB_EPOCH = 1_700_000_000
KERNEL = "6.1.0-node"
IMAGE_PATH = "LiveOS/ext3fs.img"
OFFSET = 2048 * 20
PROGRAMS = (
    "sh", "bash", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "head", "id", "ln", "ls", "mkdir", "mkfifo", "mv",
    "readlink", "rm", "seq", "setsid", "sleep", "stat", "touch", "truncate", "uname", "getent",
)  # fmt: skip


@dataclass(frozen=True)
class NodeImage:
    """The file that plays the ISO, and the ext image inside it as a file of its own."""

    iso: Path
    squashfs: Path
    ext: Path
    squashfs_size: int


def _libraries(program: Path) -> Iterable[Path]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(match) for match in re.findall(r"(/\S+) \(0x", said)]


def copy_program(root: Path, program: str, place: str) -> None:
    """A program of this machine and the libraries that it needs, at ``place`` of a root."""
    found = Path(os.path.realpath(shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") or program))
    target = root / place
    shutil.copy2(found, target)
    for library in _libraries(found):
        into = root / "usr" / str(library).lstrip("/").replace("usr/", "", 1)
        if not into.exists():
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.path.realpath(library), into)


def build_root(root: Path, world: KeyWorld) -> Path:
    """Fill ``root``: merged /usr, programs, accounts, one kernel's modules, rpm database, files to be changed."""
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "var/lib", "var/tmp", "var/cache/ldconfig",
                 "proc", "sys", "dev", "run", "tmp", "root", "opt", "usr/share/vendor/deep/er"):  # fmt: skip
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for program in PROGRAMS:
        copy_program(root, program, f"usr/bin/{program}")
    for program in ("useradd", "ldconfig", "kmod"):
        copy_program(root, program, f"usr/sbin/{program}")
    (root / "usr/sbin/depmod").symlink_to("kmod")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/ld.so.conf").write_text("/usr/lib/x86_64-linux-gnu\n/usr/local/lib\n")
    (root / "etc/login.defs").write_text("")
    for number in range(60):
        (root / f"usr/share/vendor/deep/file{number}").write_text(f"{number}\n" * 50)
    (root / "usr/share/vendor/link").symlink_to("deep/file1")
    (root / "usr/share/vendor/hard1").write_text("hard\n")
    os.link(root / "usr/share/vendor/hard1", root / "usr/share/vendor/hard2")
    _modules(root)
    run("ldconfig", "-r", root)
    rpm = world.build_rpm(root.parent, "vendor-tool", files={"/usr/share/vendor/owned": "vendor's\n"})
    database = ["--root", root, "--define", "_dbpath /var/lib/rpm", "--define", "_tmppath /var/tmp"]
    run("rpm", *database, "-i", "--nosignature", rpm, env={"SOURCE_DATE_EPOCH": str(EPOCH)})
    (root / "var/lib/rpm/.rpm.lock").unlink(missing_ok=True)
    return root


def _modules(root: Path) -> None:
    directory = root / f"usr/lib/modules/{KERNEL}"
    (directory / "kernel").mkdir(parents=True)
    make_module(directory / "kernel/vendor.ko", "vendor")
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (directory / name).write_text("kernel/vendor.ko\n" if name == "modules.order" else "")
    run("depmod", "-b", root, KERNEL)


def make_module(path: Path, name: str) -> Path:
    """An object file that depmod takes for a kernel module."""
    info = f"name={name}\\0vermagic={KERNEL}\\0depends=\\0alias=test:{name}\\0"
    assembly = f'.section .modinfo,"a"\n.ascii "{info}"\n'
    run("as", "-o", path, "-", stdin=assembly.encode())
    return path


def pack(tmp: Path, root: Path, *, fs: str = "ext3", size_mib: int = 128, options: Sequence[str] = ()) -> NodeImage:
    """Pack ``root`` into ext image, squashfs and the file that plays the ISO."""
    tree = tmp / "squashfs-root"
    (tree / IMAGE_PATH).parent.mkdir(parents=True)
    ext = build_ext(tree / IMAGE_PATH, root, fs=fs, size_mib=size_mib, options=options)
    squashfs = build_squashfs(tmp / "squashfs.img", tree)
    return wrap(tmp, squashfs, ext)


def wrap(tmp: Path, squashfs: Path, ext: Path) -> NodeImage:
    """Put a squashfs into a file that plays the ISO."""
    iso = tmp / "node.iso"
    iso.write_bytes(bytes(OFFSET) + squashfs.read_bytes() + bytes(4096))
    iso.chmod(0o644)
    return NodeImage(iso, squashfs, ext, squashfs.stat().st_size)


SharedNode = Tuple[Path, NodeImage]


def memfd(path: Path) -> int:
    """A sealed memory file with the content of ``path``."""
    descriptor = os.memfd_create(path.name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(descriptor, path.read_bytes())
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


class Installer:
    """Installs RPMs into a :class:`NodeImage` and shows the result as an ext image for other programs to read."""

    def __init__(self, tmp: Path, node: NodeImage, keys: Sequence[bytes]) -> None:
        self.tmp = tmp
        self.node = node
        self.keys = tuple(keys)
        self.scratch = tmp / "scratch"
        self.scratch.mkdir(mode=0o700)

    def run(
        self, rpms: Sequence[Path], judge: Callable[[Delta], None] = lambda delta: None, **changes: Any
    ) -> Installed:
        """Install; ``changes`` replace fields of the job."""
        with ExitStack() as stack:
            iso = os.open(self.node.iso, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, iso)
            packages: List[PackageFile] = []
            for rpm in rpms:
                packages.append(PackageFile(rpm.name, memfd(rpm)))
                stack.callback(os.close, packages[-1].fd)
            job = InstallJob(
                iso_fd=iso,
                iso_name=self.node.iso.name,
                squashfs_offset=OFFSET,
                squashfs_size=self.node.squashfs_size,
                image_path=IMAGE_PATH,
                packages=tuple(packages),
                rpm_keys=self.keys,
                dbpath="/var/lib/rpm",
                epoch=JOB_EPOCH,
                kernel_release=KERNEL,
                owned_mtimes={},
                facts={},
                timeout=60,
            )
            installation = install(replace(job, **changes), judge, scratch=self.scratch, stack=stack)
            if installation.installed.flat is None:
                installation.check()
            return installation.installed

    def write_image(self, installed: Installed, name: str = "changed.img") -> Path:
        """The changed ext image, whole."""
        image = self.tmp / name
        shutil.copy(self.node.ext, image)
        with image.open("r+b") as stream:
            for index, content in installed.changed_blocks.items():
                stream.seek(index * 128 * 1024)
                stream.write(content)
        return image


def blocks(installed: Installed) -> Mapping[int, bytes]:
    """All changed blocks, in memory."""
    return dict(installed.changed_blocks)


def descendants(pid: int) -> Iterator[int]:
    """All processes below ``pid``; one that ends meanwhile has none."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield child
        yield from descendants(child)


@dataclass(frozen=True)
class Packages:
    """Builds RPMs signed with the world's good rpm key."""

    world: KeyWorld
    out: Path

    def build(self, name: str, *, install: str = "", files: str = "", preamble: str = "", sections: str = "") -> Path:
        """A signed noarch RPM; ``install`` is the %install script, ``files`` the %files list."""
        work = self.out / f"build-{name}"
        work.mkdir(parents=True)
        spec = work / f"{name}.spec"
        spec.write_text(
            f"Name: {name}\nVersion: 1\nRelease: 1\nSummary: test\nLicense: Apache-2.0\nBuildArch: noarch\n{preamble}\n"
            f"%description\ntest\n%install\nmkdir -p %{{buildroot}}\n{install}\n{sections}\n%files\n{files}\n"
        )
        settings = {
            "_topdir": str(work), "_rpmdir": str(self.out), "_rpmfilename": "%{NAME}.rpm", "_dbpath": str(work / "db"),
            "_buildhost": "build.test.example", "__os_install_post": "%{nil}", "_build_id_links": "none",
            "_binaries_in_noarch_packages_terminate_build": "0", "_buildshell": "/bin/bash",
        }  # fmt: skip
        options = [part for key, value in settings.items() for part in ("--define", f"{key} {value}")]
        self.world.run(["rpmbuild", "-bb", "--quiet", *options, str(spec)])
        return self.world.sign_rpm(self.out / f"{name}.rpm")


def _open_the_way(directory: Path) -> str:
    """Shell commands after which every user can reach the checkout."""
    closed = [parent for parent in CHECKOUT.parents if not parent.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ""
    (directory / "checkout").mkdir()
    aside, checkout, top = (shlex.quote(str(path)) for path in (directory / "checkout", CHECKOUT, closed[-1]))
    return f"""mount --bind {checkout} {aside}
mount -t tmpfs -o mode=755 tmpfs {top}
mkdir -p {checkout}
mount --bind {aside} {checkout}"""


# Shell commands after which nobody can open /dev/fuse, in a mount namespace of their own.
HIDE_FUSE = """mount --make-rprivate /
mount --bind /dev/fuse /dev/fuse
mount -o remount,bind,nodev /dev/fuse
"""


def without_fuse(argv: Sequence[str]) -> "list[str]":
    """A command line that runs ``argv`` where /dev/fuse cannot be opened. Takes root."""
    return ["unshare", "--mount", "sh", "-ec", HIDE_FUSE + 'exec "$@"', "sh", *argv]


def run_without_fuse(task: Callable[[], bytes]) -> bytes:
    """What ``task`` returns in a process of its own that cannot open /dev/fuse. Takes root."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            run("sh", "-ec", HIDE_FUSE)
            with os.fdopen(writer, "wb") as stream:
                stream.write(task())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return answer


def unprivileged(
    argv: Sequence[str], *, uid: int, directory: Path, subordinate: bool = True, fuse: bool = True
) -> "list[str]":
    """A command line that runs ``argv`` as a user who has an account, ids in /etc/subuid and a usual /dev/fuse.

    All of that exists only in a mount namespace of the command's own. So does the way to a checkout in a directory that
    is closed to others, like /root.
    """
    directory.mkdir()
    (directory / "passwd").write_text(Path("/etc/passwd").read_text() + f"respintest:x:{uid}:{uid}::/:/bin/sh\n")
    (directory / "subuid").write_text("respintest:300000:65536\n" if subordinate else "")
    script = f"""set -e
mount --make-rprivate /
{_open_the_way(directory)}
mknod {directory}/fuse c 10 229
chmod {"0666" if fuse else "0600"} {directory}/fuse
mount --bind {directory}/fuse /dev/fuse
mount --bind {directory}/passwd /etc/passwd
touch /etc/subuid /etc/subgid
mount --bind {directory}/subuid /etc/subuid
mount --bind {directory}/subuid /etc/subgid
exec setpriv --reuid {uid} --regid {uid} --clear-groups --inh-caps=-all "$@"
"""
    return ["unshare", "--mount", "sh", "-c", script, "sh", *argv]
