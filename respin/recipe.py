"""A recipe: what ``respin build`` is to do, as a TOML file that is kept in version control.

Its keys are the command's options; paths count from the directory that the recipe lies in. What the command line says
as well counts instead.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict

from respin.byteview import open_stream
from respin.errors import UsageError
from respin.limits import LIMITS
from respin.strictjson import Fields

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FINDING = "bad-recipe"
SCHEMA = 1
_PATHS = ("base", "base_checksum", "trust", "gnupg_home", "output", "payload")
_TEXTS = ("base_sha256", "sign_key")
# Key of the recipe -> parameter of the command.
_LISTS = {"remove": "remove", "append_args": "append_arg", "remove_args": "remove_arg"}
_SWITCHES = {"restore": "no_restore", "grow": "no_grow"}
_LONGEST = 4096
_REMEDY = "docs/reference/commands.md shows a recipe with all keys"


def read_recipe(path: Path) -> Dict[str, Any]:
    """The parameters of ``respin build`` that the recipe gives, by name; UsageError names the key that is wrong."""
    where = str(path)
    fields = Fields(_load(path), where=where, error=UsageError, finding=FINDING, remedy=_REMEDY)
    if fields.integer("schema") != SCHEMA:
        raise fields.bad(f"is not {SCHEMA}, the only one that this version reads", "schema")
    found: Dict[str, Any] = {}
    for key in _PATHS:
        if fields.has(key):
            found[key] = str(path.parent / fields.text(key, limit=_LONGEST))
    for key in _TEXTS:
        if fields.has(key):
            found[key] = fields.text(key)
    if fields.has("plugins"):
        named = fields.texts("plugins", limit=LIMITS.bundle_members, length=_LONGEST, ordered=True)
        found["plugins"] = [str(path.parent / name) for name in named]
    for key, parameter in _LISTS.items():
        if fields.has(key):
            found[parameter] = list(fields.texts(key, limit=LIMITS.bundle_members, length=_LONGEST, ordered=True))
    for key, parameter in _SWITCHES.items():
        if fields.has(key):
            found[parameter] = not fields.boolean(key)
    if fields.has("revision"):
        found["revision"] = fields.integer("revision")
    if fields.has("unsigned"):
        found["unsigned"] = fields.boolean("unsigned")
    fields.done()
    return found


def _load(path: Path) -> Any:
    with open_stream(path) as stream:
        data = stream.read(LIMITS.manifest + 1)
    if len(data) > LIMITS.manifest:
        raise UsageError("this is too large for a recipe", where=str(path), remedy=_REMEDY, finding=FINDING)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f"this is not TOML: {error}",
            where=str(path),
            remedy=_REMEDY,
            finding=FINDING,
        ) from error
