"""The rpm bindings, which come with the system's rpm and never from a package index.

In a virtual environment a stand-in may be installed under their name. It starts the system's interpreters to find out
where they look for modules; when the bindings lie where distributions have them there is no need to ask.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from types import ModuleType
from typing import Optional

_NAME = "rpm"
# Debian's and its kin's place, and EL's and Fedora's
_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_SYSTEM = (
    "/usr/lib/python3/dist-packages",
    f"/usr/lib64/{_VERSION}/site-packages",
    f"/usr/lib/{_VERSION}/site-packages",
)
_lock = threading.Lock()


def directory() -> Optional[str]:
    """The directory that holds the bindings themselves, for this version of Python; None if none is known."""
    for place in (*sys.path, *_SYSTEM):
        if any(os.path.isfile(os.path.join(place, _NAME, f"_rpm{suffix}")) for suffix in EXTENSION_SUFFIXES):
            return place
    return None


def load() -> ModuleType:
    """The module ``rpm``. Raises ImportError."""
    with _lock:
        place = None if _NAME in sys.modules else directory()
        spec = None if place is None else PathFinder.find_spec(_NAME, [place])
        if spec is None or spec.loader is None:
            return importlib.import_module(_NAME)
        module = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[_NAME]
            if isinstance(error, ImportError):
                return importlib.import_module(_NAME)
            raise
        return module
