"""The indexes that rpm keeps beside its packages, and the tags whose values they have (rpm, lib/rpmdb.c, dbiTags)."""

from __future__ import annotations

from typing import Mapping

INSTALL_TID = 1128
TAGS: Mapping[str, int] = {
    "Name": 1000,
    "Basenames": 1117,
    "Group": 1016,
    "Requirename": 1049,
    "Providename": 1047,
    "Conflictname": 1054,
    "Obsoletename": 1090,
    "Triggername": 1066,
    "Dirnames": 1118,
    "Recommendname": 5046,
    "Suggestname": 5049,
    "Supplementname": 5052,
    "Enhancename": 5055,
    "Filetriggername": 5069,
    "Transfiletriggername": 5079,
}
# Of what the installation adds to a header.
ADDED_TAGS: Mapping[str, int] = {"Installtid": INSTALL_TID, "Sigmd5": 261, "Sha1header": 269}
