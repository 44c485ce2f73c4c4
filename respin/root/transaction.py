"""The RPM transaction itself, in a process that can see nothing but the Node's root.

Dependencies are never resolved or checked here (rpm's ``check`` is not called); packages are only ever added. What rpm
calls a warning and a Node must not have is a failure: a failed scriptlet of any kind, a file owner that doesn't exist.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from respin import rpmbindings
from respin.errors import BuildError, MissingToolError, PolicyError, RespinError, VerificationError
from respin.root import chroot, syscalls
from respin.root.mounts import mount

# Every macro that could lead rpm to the build machine's configuration is set here; nothing else is read.
_MACROS = """\
%_dbpath {dbpath}
%_db_backend sqlite
%_rpmlock_path {dbpath}/.rpm.lock
%_tmppath {tmp}
%_keyring rpmdb
%_pkgverify_level all
%_pkgverify_flags 0x0
%_install_langs all
%_install_script_path {path}
%_netsharedpath %{{nil}}
%_excludedocs 0
%_transaction_color 0
%_flush_io 0
%_minimize_writes 0
%_var /var
%_sysconfdir /etc
%_prefix /usr
%_sharedstatedir /var/lib
%_localstatedir /var
"""
# rpm insists on an rpmrc. The caller has compared each package's architecture with the Node's.
_RPMRC = "arch_canon: {machine}: {machine} 1\nos_canon: Linux: Linux 1\narch_compat: {machine}: noarch\n"
_SCRIPTLETS: Mapping[str, str] = {
    "RPMTAG_PREIN": "%pre", "RPMTAG_POSTIN": "%post", "RPMTAG_PREUN": "%preun", "RPMTAG_POSTUN": "%postun",
    "RPMTAG_PRETRANS": "%pretrans", "RPMTAG_POSTTRANS": "%posttrans", "RPMTAG_VERIFYSCRIPT": "%verifyscript",
    "RPMTAG_TRIGGERIN": "%triggerin", "RPMTAG_TRIGGERPREIN": "%triggerprein", "RPMTAG_TRIGGERUN": "%triggerun",
    "RPMTAG_TRIGGERPOSTUN": "%triggerpostun", "RPMTAG_TRIGGERSCRIPTS": "trigger",
    "RPMTAG_FILETRIGGERIN": "%filetriggerin", "RPMTAG_FILETRIGGERSCRIPTS": "file trigger",
    "RPMTAG_TRANSFILETRIGGERIN": "%transfiletriggerin", "RPMTAG_TRANSFILETRIGGERSCRIPTS": "transaction file trigger",
}  # fmt: skip
_MISSING_OWNER = re.compile(r"\b(user|group) (\S+) does not exist - using")
_LOG_LIMIT = 1 << 20
STAND_IN = "/run/respin/rpmdb"  # a file system of the sandbox's own: nothing of it gets into the root


@dataclass(frozen=True)
class Transaction:
    """What to install: (name, descriptor of a sealed memory file) of each package, in order, and the trusted keys.

    ``stand_in`` is a directory outside the root with a database instead of the root's own; ``dbpath`` is then
    :data:`STAND_IN`.
    """

    packages: Tuple[Tuple[str, int], ...]
    keys: Tuple[bytes, ...]
    dbpath: str
    timeout: float
    stand_in: str = ""


def write_configuration(directory: str, dbpath: str, machine: str, *, has_tmp: bool) -> None:
    """Write the rpmrc and macros that RPM_CONFIGDIR will name."""
    values = {"dbpath": dbpath, "tmp": "/tmp" if has_tmp else "/var/tmp", "path": "/usr/sbin:/usr/bin:/sbin:/bin"}
    for name, text in (("rpmrc", _RPMRC.format(machine=machine)), ("macros", _MACROS.format(**values))):
        with open(f"{directory}/{name}", "w", encoding="utf-8") as stream:
            stream.write(text)


def hide_host_configuration(empty_directory: str, switch: str) -> None:
    """Cover the host's /etc/rpm, and its name service switch: users are looked up in the Node's files only."""
    if os.path.isdir("/etc/rpm"):
        mount(empty_directory, "/etc/rpm", flags=syscalls.MS_BIND)
    if os.path.isfile("/etc/rpmrc"):
        mount("/dev/null", "/etc/rpmrc", flags=syscalls.MS_BIND)
    if os.path.isfile("/etc/nsswitch.conf"):
        mount(switch, "/etc/nsswitch.conf", flags=syscalls.MS_BIND)


def install(transaction: Transaction, root: str, uname: str, config: str, empty: str, switch: str) -> Mapping[str, Any]:
    """Run the transaction on ``root``. Only for :func:`respin.root.isolation.run`: it changes the process's root.

    Returns the names of the installed packages. Raises BuildError (scriptlet, unpacking, missing owner), PolicyError
    (conflict, already installed) or VerificationError.
    """
    hide_host_configuration(empty, switch)
    chroot.furnish(root, uname)
    if transaction.stand_in:
        os.makedirs(root + STAND_IN)
        mount(transaction.stand_in, root + STAND_IN, flags=syscalls.MS_BIND)
    # By way of the working directory: rpm takes no path with spaces.
    os.chdir(config)
    os.environ["RPM_CONFIGDIR"] = "/proc/self/cwd"
    rpm = _load_rpm()
    del os.environ["RPM_CONFIGDIR"]  # read once, on loading; scriptlets inherit the environment
    log = os.fdopen(os.memfd_create("respin-rpm-log"), "w+", encoding="utf-8", errors="backslashreplace")
    rpm.setLogFile(log)
    rpm.setVerbosity(rpm.RPMLOG_WARNING)
    # Look-ups before the root changes make the C library settle on the configuration it has now.
    import grp
    import pwd

    pwd.getpwnam("root")
    grp.getgrnam("root")
    ts = rpm.TransactionSet("/")
    ts.setKeyring(_keyring(rpm, transaction.keys))
    ts.setVSFlags(0)
    ts.setProbFilter(
        rpm.RPMPROB_FILTER_IGNOREARCH
        | rpm.RPMPROB_FILTER_IGNOREOS
        | rpm.RPMPROB_FILTER_DISKSPACE  # the overlay's tmpfs says nothing about the image
        | rpm.RPMPROB_FILTER_DISKNODES
    )
    headers = [(name, fd, _header(rpm, ts, name, fd, log)) for name, fd in transaction.packages]
    chroot.lock_in(root, transaction.timeout)
    if transaction.stand_in:
        ts.initDB()  # makes its indexes
    ts.openDB()
    for name, _, header in headers:
        _refuse_installed(rpm, ts, name, header)
    for _, fd, header in headers:
        ts.addInstall(header, fd, "i")
    ts.order()
    # No scriptFd: scriptlets then write to our standard output; with one, rpm discards it unless it is verbose.
    run = _Run(rpm, {fd: name for name, fd in transaction.packages})
    problems = ts.run(run.callback, "")
    found = [(problem.type, str(problem)) for problem in ts.problems()]
    ts.closeDB()
    del ts
    messages = _read_log(log)
    sys.stdout.flush()
    os.write(1, "".join(f"{line}\n" for line in messages).encode("utf-8", "backslashreplace"))
    _judge(rpm, run, problems, found, messages)
    return {"installed": [str(header["nevra"]) for _, _, header in headers]}


def _load_rpm() -> Any:
    try:
        return rpmbindings.load()
    except ImportError as error:
        raise MissingToolError(
            f"the rpm bindings cannot be loaded: {error}",
            remedy="Debian: apt install python3-rpm; EL/Fedora: dnf install python3-rpm",
        ) from error


def _keyring(rpm: Any, keys: Sequence[bytes]) -> Any:
    ring = rpm.keyring()
    for key in keys:
        try:
            ring.addKey(rpm.pubkey(key))
        except (rpm.error, TypeError, ValueError) as error:
            raise VerificationError(f"rpm cannot use a key of the trust store: {error}", finding="nokey") from error
    return ring


def _header(rpm: Any, ts: Any, name: str, fd: int, log: Any) -> Any:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return ts.hdrFromFdno(fd)
    except rpm.error as error:
        raise VerificationError(
            f"rpm refuses the package: {error}{_because(_read_log(log))}", where=name, finding="rpm-refused"
        ) from error


def _refuse_installed(rpm: Any, ts: Any, name: str, header: Any) -> None:
    for installed in ts.dbMatch("name", header["name"]):
        raise PolicyError(
            f"the Node already has {installed['nevra']}",
            where=name,
            remedy="a plugin only adds: give the package another name, or leave it out",
            finding="already-installed",
        )
    for number, obsolete in enumerate(header["obsoletename"] or ()):
        for installed in ts.dbMatch("name", obsolete):
            flags, version = header["obsoleteflags"][number], header["obsoleteversion"][number]
            wanted = rpm.ds((obsolete, flags, version), rpm.RPMTAG_OBSOLETENAME)
            present = rpm.ds((installed["name"], rpm.RPMSENSE_EQUAL, installed["evr"]), rpm.RPMTAG_PROVIDENAME)
            if present.Compare(wanted):
                raise PolicyError(
                    f"the package obsoletes {installed['nevra']}, which belongs to the Node",
                    where=name,
                    remedy="a plugin only adds: remove the Obsoletes",
                    finding="obsoletes-vendor-package",
                )


class _Run:
    """rpm's callback. It must never raise: the bindings would end the process."""

    def __init__(self, rpm: Any, names: Mapping[int, str]) -> None:
        self._rpm = rpm
        self._names = names
        self._tags: Dict[int, str] = {getattr(rpm, t): n for t, n in _SCRIPTLETS.items() if hasattr(rpm, t)}
        self.failures: List[Tuple[str, str, str]] = []

    def callback(self, what: int, amount: int, total: int, key: Any, data: Any) -> Optional[int]:
        """See rpm's rpmcallback.h; for a scriptlet ``amount`` is its tag."""
        rpm = self._rpm
        name = self._names.get(key, "an installed package") if isinstance(key, int) else "an installed package"
        if what == rpm.RPMCALLBACK_INST_OPEN_FILE:
            os.lseek(key, 0, os.SEEK_SET)
            return int(key)
        if what == rpm.RPMCALLBACK_SCRIPT_ERROR:
            scriptlet = self._tags.get(amount, f"scriptlet {amount}")
            self.failures.append(("scriptlet-failed", name, f"the {scriptlet} scriptlet failed"))
        elif what in (rpm.RPMCALLBACK_UNPACK_ERROR, rpm.RPMCALLBACK_CPIO_ERROR):
            self.failures.append(("unpack-failed", name, "the package's files could not be unpacked"))
        return None


def _judge(rpm: Any, run: _Run, result: Any, problems: Sequence[Tuple[int, str]], messages: Sequence[str]) -> None:
    for kind, text in problems:
        raise _problem(rpm, kind, text, messages)
    for finding, name, text in run.failures:
        raise BuildError(
            text + _because(messages), where=name, remedy="see the scriptlets' output with -vv", finding=finding
        )
    for line in messages:
        missing = _MISSING_OWNER.search(line)
        if missing:
            raise BuildError(
                f"a file belongs to the {missing[1]} {missing[2]}, which does not exist in the Node",
                remedy=f"create the {missing[1]} in %pre",
                finding="missing-owner",
            )
    errors = [line for line in messages if line.startswith("error:")]
    # None is success; a list, even an empty one, is not.
    if result is not None or errors:
        raise BuildError(f"the RPM transaction failed{_because(errors or messages)}", finding="transaction-failed")


def _problem(rpm: Any, kind: int, text: str, messages: Sequence[str]) -> RespinError:
    if kind in (rpm.RPMPROB_FILE_CONFLICT, rpm.RPMPROB_NEW_FILE_CONFLICT):
        return PolicyError(text, remedy="a plugin only adds: ship another path", finding="file-conflict")
    if kind in (rpm.RPMPROB_PKG_INSTALLED, rpm.RPMPROB_OLDPACKAGE):
        return PolicyError(text, remedy="name each package once", finding="already-installed")
    if kind == rpm.RPMPROB_OBSOLETES:
        return PolicyError(text, remedy="a plugin only adds: remove the Obsoletes", finding="obsoletes-vendor-package")
    if kind == rpm.RPMPROB_VERIFY:
        return VerificationError(text + _because(messages), finding="rpm-refused")
    return BuildError(text, finding="transaction-failed")


def _because(messages: Sequence[str]) -> str:
    return ": " + " | ".join(messages[-3:]) if messages else ""


def _read_log(log: Any) -> List[str]:
    log.flush()
    log.seek(0)
    lines = [line.strip() for line in log.read(_LOG_LIMIT).splitlines() if line.strip()]
    log.seek(0, os.SEEK_END)
    return lines
