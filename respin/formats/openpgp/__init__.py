"""OpenPGP signatures and keys (RFC 4880), judged by GnuPG in a private home that holds only the given keys.

Covered: version 4 public keys, detached signatures over binary data (class 00), clearsigned text (class 01), signing
and key generation. Version 5 and 6 packets and post-quantum algorithms are UNSUPPORTED; nothing is ever encrypted.

- ``model``: verdict words, keys and signatures as values
- ``packets``: armor and packet framing, so that structure is judged before GnuPG sees a byte
- ``cleartext``: the cleartext signature framework
- ``home``: running ``gpg`` on an explicit home
- ``keylist``: key files to :class:`PublicKey`
- ``judge``: GnuPG's status lines to one verdict
- ``keyring``: verification
- ``signer``: secret keys: sign, generate, export
"""

from __future__ import annotations

from respin.formats.openpgp.keyring import Keyring, fingerprints, read_keys
from respin.formats.openpgp.model import PublicKey, Signature, Verdict
from respin.formats.openpgp.signer import Signer, export_public, generate_key

__all__ = [
    "Keyring",
    "PublicKey",
    "Signature",
    "Signer",
    "Verdict",
    "export_public",
    "fingerprints",
    "generate_key",
    "read_keys",
]
