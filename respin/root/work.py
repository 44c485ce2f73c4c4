"""What the agent does as pid 1 of its namespaces: an installation from start to end, or a trial for diagnosis."""

from __future__ import annotations

import base64
import os
import platform
from contextlib import ExitStack
from typing import Any, Dict, Mapping, Sequence, Tuple, Union

from respin.byteview import FileView
from respin.errors import BuildError, MissingToolError
from respin.formats.ext.image import ExtImage
from respin.formats.squashfs.image import SquashfsImage
from respin.formats.squashfs.nested import NestedView
from respin.formats.squashfs.root import SquashfsRoot
from respin.root import chroot, database, flatview, fuse, isolation, mounts, protocol, transaction
from respin.root.apply import Applier
from respin.root.compare import Comparison
from respin.root.contents import collect
from respin.root.delta import Delta
from respin.root.derived import Regenerator
from respin.root.entries import with_facts
from respin.root.factory import mirror, mirrored_times
from respin.root.fuseview import ViewServer
from respin.root.growth import megabytes
from respin.root.lowertree import show_tree
from respin.root.recording import StandIn, record
from respin.root.store import CopyOnWrite
from respin.root.unpacked import UnpackedImage

_SCRATCH_EXTRA = 1 << 30
_UNPACKED = 4  # as many times what is compressed the changes may take


def installation(job: Mapping[str, Any], descriptors: Sequence[int], channel: protocol.Channel) -> None:
    """Install, tell the delta, wait for the verdict, hand back the new content, and check it if asked to.

    Where the job names a file, it does so by its place among ``descriptors``.
    """
    os.environ["SOURCE_DATE_EPOCH"] = str(job["epoch"])
    opened = {
        "iso_fd": descriptors[job["iso_fd"]],
        "result_fd": descriptors[job["result_fd"]],
        "packages": [(name, descriptors[place]) for name, place in job["packages"]],
    }
    transcript = isolation.Transcript()
    try:
        _Installation({**job, **opened}, channel, transcript).run()
    except protocol.ClosedError:
        raise
    except BaseException as error:
        message = protocol.describe_error(error)
        message["detail"] = "\n".join(part for part in (message["detail"], transcript.text) if part)
        if message["finding"] in ("scriptlet-failed", "timeout") and transcript.tail():
            message["what"] += f" ({transcript.tail()})"
        channel.send(message)


class _Installation:
    def __init__(self, job: Mapping[str, Any], channel: protocol.Channel, transcript: isolation.Transcript) -> None:
        self._job = job
        self._channel = channel
        self._transcript = transcript

    def run(self) -> None:
        self._step("Opening the root image")
        mounts.make_private()
        if self._job["image_path"]:
            self._nested()
        else:
            self._flat()

    def _nested(self) -> None:
        """Of an ext image: the delta is written to it block by block."""
        job = self._job
        squashfs = self._open_squashfs()
        nested = squashfs.open_file(job["image_path"])
        scratch = mounts.make_scratch(job["scratch"], nested.size + _SCRATCH_EXTRA)
        view = self._view(nested, scratch)
        try:
            applier = Applier(view.path, job["image_path"], job["epoch"], view.fds)
            self._show_nested(view, nested, scratch.lower)
            delta, sources, regenerated = self._change(scratch)
            self._step("Writing the changes to the root image")
            plan = applier.plan(delta, sources, scratch)
            mounts.unmount(scratch.merged)
            mounts.unmount(scratch.lower)
            size = applier.size_needed(plan, may_grow=job["may_grow"])
            if size is not None:
                self._step(f"Growing the root image to {megabytes(size)}")
                applier.grow(view.grow(size), size, plan)
                self._step("Writing the changes to the grown root image")
            applier.apply(plan)
            view.set_phase("check")
            applier.read_back(plan)
            self._applied(view.report(), regenerated)
            self._channel.receive()  # the order to check; most of the time there is none, and everything ends here
            applier.check()
            self._channel.send({"type": "checked", "blocks_read": view.report()["blocks_read"]})
        except protocol.ClosedError:
            raise
        except Exception:
            view.check()  # a damaged image shows as an input/output error: what the view says is better
            raise

    def _flat(self) -> None:
        """Of a flat squashfs: the contents of changed files are handed over, and the starter writes a new one."""
        job = self._job
        scratch = mounts.make_scratch(job["scratch"], _UNPACKED * job["squashfs_size"] + _SCRATCH_EXTRA)
        with ExitStack() as stack:
            self._show_flat(scratch, stack)
            delta, sources, regenerated = self._change(scratch)
            self._step("Collecting the changes")
            self._applied(collect(delta, sources, scratch.upper, job["result_fd"]), regenerated)

    def _change(self, scratch: mounts.Scratch) -> Tuple[Delta, Mapping[str, str], Tuple[str, ...]]:
        """Install on the vendor's root in ``scratch.lower``.

        Returns the judged delta with further files and labels, where the contents of these files are, and what was
        made anew.
        """
        job = self._job
        present = database.find(scratch.lower, job["dbpath"])
        dbpath = present.path
        mounts.mount_overlay(scratch)
        self._step("Installing the packages")
        if present.backend == "sqlite":
            self._transact(scratch, dbpath)
        else:
            stand_in = StandIn(scratch.lower, present, f"{scratch.files}/rpmdb")
            self._transact(scratch, transaction.STAND_IN, stand_in.directory)
            self._step("Recording the packages with the Node's own rpm")
            record(
                stand_in.new_records(),
                scratch.merged,
                present,
                f"{scratch.files}/uname",
                timeout=job["timeout"],
                transcript=self._transcript,
            )
        self._step("Comparing the root with the vendor's")
        comparison = Comparison(scratch.lower, scratch.upper, scratch.merged)
        times = mirrored_times(job["owned_mtimes"], job["factory"])
        rules: Dict[str, Any] = {"dbpath": dbpath, "owned_mtimes": times, "epoch": job["epoch"]}
        delta = comparison.delta(**rules)
        uname = f"{scratch.files}/uname"
        regenerated = Regenerator(scratch, uname, job["timeout"], self._transcript).run(delta)
        if regenerated:
            delta = comparison.delta(**rules)
        if mirror(scratch, delta, job["factory"]):
            delta = comparison.delta(**rules)
        facts, labels = self._judge(delta)
        whole, sources = with_facts(delta, facts, labels, scratch, job["epoch"])
        return whole, sources, regenerated

    def _applied(self, report: Mapping[str, Any], regenerated: Tuple[str, ...]) -> None:
        self._channel.send(
            {**report, "type": "applied", "transcript": self._transcript.text, "regenerated": list(regenerated)}
        )

    def _step(self, title: str) -> None:
        self._channel.send({"type": "step", "title": title})

    def _open_squashfs(self) -> SquashfsImage:
        return SquashfsImage.open(self._squashfs())

    def _view(self, nested: NestedView, scratch: mounts.Scratch) -> Union[ViewServer, UnpackedImage]:
        """The image as a file to be changed: served block by block, or all of it unpacked where there is no FUSE."""
        try:
            fuse.require("fuse2fs", scratch.lower)
            image = CopyOnWrite(nested, nested.block_size, self._job["result_fd"])
            return ViewServer(image, scratch.view, self._job["scratch"])
        except MissingToolError as why:
            self._step(f"Unpacking the root image ({why})")
            return UnpackedImage(nested, self._job["result_fd"], self._job["scratch"])

    def _show_nested(self, view: Union[ViewServer, UnpackedImage], nested: NestedView, place: str) -> None:
        if isinstance(view, ViewServer):
            mounts.mount_image(view.path, place)
            return
        self._step("Unpacking the root")
        show_tree(ExtImage.open(FileView(view.fds[0], nested.name)), place)

    def _show_flat(self, scratch: mounts.Scratch, stack: ExitStack) -> None:
        try:
            fuse.require("squashfuse_ll", scratch.lower)
            stack.enter_context(flatview.mounted(self._job["iso_fd"], self._squashfs(), scratch))
        except MissingToolError as why:
            self._step(f"Unpacking the root ({why})")
            show_tree(SquashfsRoot(self._open_squashfs()), scratch.lower, attributes=False)

    def _squashfs(self) -> FileView:
        job = self._job
        return FileView(job["iso_fd"], job["iso_name"], job["squashfs_offset"], job["squashfs_size"])

    def _transact(self, scratch: mounts.Scratch, dbpath: str, stand_in: str = "") -> None:
        job = self._job
        uname, empty, switch = (f"{scratch.files}/{name}" for name in ("uname", "empty", "nsswitch.conf"))
        chroot.write_uname(uname, job["kernel_release"])
        os.mkdir(empty)
        with open(switch, "w", encoding="ascii") as stream:
            stream.write("passwd: files\ngroup: files\nshadow: files\n")
        has_tmp = os.path.isdir(f"{scratch.lower}/tmp") and not os.path.islink(f"{scratch.lower}/tmp")
        transaction.write_configuration(scratch.rpm_config, dbpath, platform.machine(), has_tmp=has_tmp)
        order = transaction.Transaction(
            packages=tuple((name, fd) for name, fd in job["packages"]),
            keys=tuple(base64.b64decode(key) for key in job["rpm_keys"]),
            dbpath=dbpath,
            timeout=job["timeout"],
            stand_in=stand_in,
        )
        outcome = isolation.run(
            lambda: transaction.install(order, scratch.merged, uname, scratch.rpm_config, empty, switch),
            title="the RPM transaction",
            keep=[fd for _, fd in order.packages],
            timeout=job["timeout"],
            transcript=self._transcript,
        )
        if outcome.status != 0 or outcome.result is None:
            raise BuildError(
                f"the RPM transaction ended with status {outcome.status}: {self._transcript.tail()}",
                finding="transaction-failed",
            )
        wal = f"{stand_in or scratch.upper + dbpath}/rpmdb.sqlite-wal"
        if os.path.lexists(wal) and os.stat(wal).st_size:
            raise BuildError("rpm left its database with a journal", where=dbpath, finding="transaction-failed")

    def _judge(self, delta: Delta) -> Tuple[Mapping[str, bytes], Mapping[str, bytes]]:
        """Have the delta judged: contents of further files, and labels, by path."""
        self._channel.send({"type": "delta", "delta": delta.to_json()})
        answer = self._channel.receive()
        return _decoded(answer["facts"]), _decoded(answer["labels"])


def _decoded(values: Mapping[str, str]) -> Mapping[str, bytes]:
    return {key: base64.b64decode(value) for key, value in values.items()}


def probe(job: Mapping[str, Any], channel: protocol.Channel) -> None:
    """Try the mounts and tell which failed."""
    failures = mounts.try_mounts(job["scratch"])
    channel.send(
        {"type": "done", "failures": {name: protocol.describe_error(error) for name, error in failures.items()}}
    )
