"""The files of a build under their names: the ISO, and beside it signatures, bill of materials, root image."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Tuple, Union

from respin import sbom
from respin.byteview import ByteView, chunks
from respin.formats.openpgp import Signer
from respin.provenance import sidecar
from respin.workspace import Output, publish_all, staged_file


@dataclass(frozen=True)
class Finished:
    """What is known of a verified ISO: its statement, its SHA-256 in hex and size in bytes, the bill of materials.

    ``payload`` is where the root image goes as a file of its own, and its bytes, if that was asked for.
    """

    statement: bytes
    sha256: str
    size: int
    components: bytes
    payload: Optional[Tuple[Path, ByteView]]


def publish(output: Output, finished: Finished, signer: Optional[Signer]) -> Tuple[Path, ...]:
    """Payload and sidecars first, the ISO last: whoever sees it sees them too. A failure takes them away.

    Returns the names of all but the ISO.
    """
    name = output.target.name
    staged: List[Output] = []
    signatures = list(sidecar.paths(output.target))
    with ExitStack() as stack:

        def stage(path: Path, data: Union[bytes, Iterable[bytes]]) -> None:
            file = staged_file(path, data, force=output.force, reaper=output.reaper)
            staged.append(stack.enter_context(file))

        if finished.payload is not None:
            target, image = finished.payload
            digest = hashlib.sha256()
            stage(target, _hashed(chunks(image), digest))
            signatures.append(sidecar.checksum_path(target))
            if signer is not None:
                stage(signatures[-1], sidecar.checksum(target.name, digest.hexdigest(), image.size, signer))
        stage(sbom.beside(output.target), finished.components)
        if signer is not None:
            stage(signatures[0], sidecar.attestation(finished.statement, name, finished.sha256, signer))
            stage(signatures[1], sidecar.checksum(name, finished.sha256, finished.size, signer))
            signer.done()
        # Signatures of what is replaced would be about something else than what stands beside them then.
        stale = signatures if signer is None and output.force else []
        publish_all([*staged, output], stale)
    return tuple(file.target for file in staged)


def _hashed(pieces: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece
