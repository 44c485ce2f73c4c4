"""Where digests of other files stand in treeinfo, kickstarts and coreutils' lists, and putting others there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from respin.formats.digestfile import in_kickstart, in_list, in_treeinfo, with_digests
from tests.support.images import run

SHA, MD5 = hashlib.sha256(b"x").hexdigest(), hashlib.md5(b"x").hexdigest()
NEW = hashlib.sha256(b"y").hexdigest()
TREEINFO = f"""[checksums]
images/efiboot.img = sha256:{SHA}
images/Install.img=sha256:{SHA.upper()}
; images/x = sha256:{SHA}
short = sha256:1234
images/odd = crc:{SHA}

[general]
; a comment
family = Fedora
note = sha256:{SHA}
""".encode()
KICKSTART = f"""# liveimg --url=file:///run/install/repo/no.img --checksum={SHA}
timezone --utc Etc/UTC
liveimg --url=file:///run/install/repo/node%20ng.squashfs.img --checksum={SHA} --noverifyssl
%post --erroronfail
liveimg --url=file:///run/install/repo/no.img --checksum={SHA}
%end
liveimg --checksum "{SHA}" --url "file:///mnt/install/repo/other.img"
liveimg --url=http://example.org/x.img --checksum={SHA}
liveimg --url=file:///run/install/repo/plain.img
""".encode()
LIST = f"# sums\n{SHA}  ./live/a b\r\n{MD5} *live/c\n{SHA}\tno\nnothing\n".encode()


def test_the_places_are_those_of_the_digits() -> None:
    assert [(one.path, one.algorithm) for one in in_treeinfo(TREEINFO)] == [
        ("/images/efiboot.img", "sha256"),
        ("/images/Install.img", "sha256"),
    ]
    assert [one.path for one in in_kickstart(KICKSTART)] == ["/node ng.squashfs.img", "/other.img"]
    assert [(one.path, one.algorithm) for one in in_list(LIST)] == [("/live/a b", "sha256"), ("/live/c", "md5")]
    for data, find in ((TREEINFO, in_treeinfo), (KICKSTART, in_kickstart), (LIST, in_list)):
        for one in find(data):
            assert data[one.start : one.end].decode().lower() in (SHA, MD5)


@pytest.mark.parametrize("which", [0, 1])
def test_another_digest_changes_its_digits_and_nothing_else(which: int) -> None:
    place = in_treeinfo(TREEINFO)[which]
    after = with_digests(TREEINFO, [(place, NEW)])
    old, new = (SHA, NEW) if which == 0 else (SHA.upper(), NEW.upper())
    name = place.path[1:].encode()
    line = next(line for line in TREEINFO.split(b"\n") if line.startswith(name))
    assert after == TREEINFO.replace(line, line.replace(old.encode(), new.encode()))


def test_sha256sum_agrees(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    for name in ("live/one", "two"):
        (tmp_path / name).write_bytes(b"x")
    made = run("sh", "-c", f"cd {tmp_path} && find . -type f | sort | xargs sha256sum")
    (tmp_path / "two").write_bytes(b"y")
    places = {one.path: one for one in in_list(made)}
    assert set(places) == {"/live/one", "/two"}
    (tmp_path / "sums").write_bytes(with_digests(made, [(places["/two"], NEW)]))
    run("sh", "-c", f"cd {tmp_path} && sha256sum -c sums")


@pytest.mark.parametrize("find", [in_treeinfo, in_kickstart, in_list])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\0", b"[checksums]\n=sha256:\n", b"liveimg --url= --checksum=\n%end"])
def test_what_is_none_has_none(find: object, data: bytes) -> None:
    assert find(data) == ()  # type: ignore[operator]
