"""A restore map that promises more than could be there."""

from __future__ import annotations

import pytest

from respin.byteview import BytesView
from respin.errors import MalformedError
from respin.provenance.restoremap import RestoreMap, validate


@pytest.mark.parametrize(("size", "fits"), [(1 << 20, True), (1 << 40, False)])
def test_originals_that_would_fill_the_disk(size: int, fits: bool) -> None:
    found = RestoreMap(size=size, sha256="0" * 64, checks=(), copies=(), originals=size, packed=1000)
    view = BytesView(bytes(4096), "iso")
    if fits:
        validate(found, view, (), "map")
        return
    with pytest.raises(MalformedError) as caught:
        validate(found, view, (), "map")
    assert caught.value.finding == "bad-restore-map"
