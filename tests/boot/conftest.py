"""Every boot test is marked, and may take longer than others: some rows start four machines."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from tests.support.quickstart import flat_quickstart, quickstart

__all__ = ["flat_quickstart", "quickstart"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.boot)
            item.add_marker(pytest.mark.timeout(3600))
