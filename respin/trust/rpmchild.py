"""rpm's word on packages, at verification level "all" with explicit keys. Runs as a program of its own, see ``rpmsig``.

rpm keeps its configuration, keyring and plugins as state of the whole process and reads them from the host; here the
parent points it to an empty configuration and a database that does not exist. This file imports nothing of respin, so
``python -I`` can run it by its path.

Standard input: JSON ``{"keys": [armored key, ...], "fds": [descriptor, ...], "scratch": directory, "bindings": path}``;
``bindings`` is the directory to look for rpm's bindings in, null to leave that to the interpreter.
Standard output: JSON ``{"words": [[word, what rpm said], ...]}``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any, List, Sequence, Tuple

VERIFY_PROBLEM = 12  # RPMPROB_VERIFY
EVERY_FILTER_BUT_VERIFY = 0x1FF
NO_CHECKS = -1  # verify-signature flags while only the header is read


def main() -> None:
    """Read the job, judge every file, write the words."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job = json.load(sys.stdin)
    if job["bindings"] is not None:
        sys.path.append(job["bindings"])
    import rpm

    rpm.addMacro("_dbpath", os.path.join(job["scratch"], "db"))
    rpm.addMacro("__plugindir", os.path.join(job["scratch"], "plugins"))
    rpm.addMacro("_pkgverify_level", "all")
    keyring, nobody = rpm.keyring(), rpm.keyring()
    for armored in job["keys"]:
        try:
            keyring.addKey(rpm.pubkey(armored.encode("ascii")))
        except (ValueError, rpm.error):
            pass  # a key this rpm can't read (ECDSA, some subkeys): its signatures stay NOKEY
    words: List[Tuple[str, str]] = []
    doubted = True
    for fd in job["fds"]:
        word, said = judge(rpm, fd, keyring)
        if word == "GOOD" and doubted:
            # A yes is worth something only if the same call without keys says no
            doubted = judge(rpm, fd, nobody)[0] == "GOOD"
            if doubted:
                word, said = "UNSUPPORTED", "this rpm accepts packages without a key; its word counts nothing"
        words.append((word, said))
    json.dump({"words": words}, sys.stdout)


def judge(rpm: Any, fd: int, keyring: Any) -> Tuple[str, str]:
    """Verify one package by a test transaction, which changes nothing."""
    transaction = rpm.TransactionSet("/")
    transaction.setKeyring(keyring)
    transaction.setFlags(rpm.RPMTRANS_FLAG_TEST | getattr(rpm, "RPMTRANS_FLAG_NOPLUGINS", 0))
    transaction.setProbFilter(EVERY_FILTER_BUT_VERIFY)
    transaction.setVfyLevel(rpm.RPMSIG_VERIFIABLE_TYPE)
    transaction.setVfyFlags(0)
    transaction.setVSFlags(NO_CHECKS)

    def callback(what: int, amount: int, total: int, key: Any, data: Any) -> Any:
        if what == rpm.RPMCALLBACK_INST_OPEN_FILE:
            os.lseek(fd, 0, os.SEEK_SET)
            return fd
        return None

    try:
        os.lseek(fd, 0, os.SEEK_SET)
        header = transaction.hdrFromFdno(fd)
        transaction.addInstall(header, fd, "i")
        problems = transaction.run(callback, "")
        said = [str(problem) for problem in transaction.problems() if problem.type == VERIFY_PROBLEM]
    except rpm.error as error:
        return "MALFORMED", str(error)
    finally:
        transaction.closeDB()
    if problems is None:
        return "GOOD", ""
    return (word_for(said), "; ".join(said)) if said else ("MALFORMED", "the test transaction failed")


def word_for(said: Sequence[str]) -> str:
    """rpm's message to a verdict word; what isn't recognised is a refusal all the same."""
    text = " ".join(said)
    if "digest: BAD" in text or "no digest" in text:
        return "BADDIGEST"
    if ": BAD" in text:
        return "BADSIG"
    if "NOKEY" in text or "NOTTRUSTED" in text:
        return "NOKEY"
    return "UNSIGNED" if "no signature" in text else "MALFORMED"


if __name__ == "__main__":
    main()
