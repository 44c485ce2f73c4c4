"""JSON from outside (RFC 8259), read so strictly that two readers cannot understand it differently.

Duplicate members, floating point, NaN, integers beyond 2**53 - 1, lone surrogates, a byte order mark and deep nesting
are refused. :class:`Fields` takes a decoded object apart key by key and refuses what nobody asked for; it reads TOML
tables as well.
"""

from __future__ import annotations

import json
import re
from typing import Any, List, Mapping, NoReturn, Optional, Pattern, Sequence, Tuple, Type

from respin.errors import MalformedError, RespinError
from respin.safepath import printable, show

MAX_DEPTH = 32
MAX_VALUES = 2_000_000  # an empty list takes three bytes of text and some seventy of memory
MAX_INTEGER = (1 << 53) - 1  # beyond it, readers that use doubles see another number (RFC 8259, section 6)
_SURROGATE = re.compile("[\ud800-\udfff]")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class _RefusedError(ValueError):
    """Something JSON allows and we don't."""


def decode(data: bytes, *, where: str, limit: int) -> Any:
    """The value that ``data`` (at most ``limit`` bytes of UTF-8) spells; raises MalformedError."""
    if len(data) > limit:
        raise _bad(f"{len(data)} bytes of JSON are too many, the limit is {limit}", where)
    if sum(data.count(mark) for mark in b",[{") > MAX_VALUES:
        raise _bad(f"the JSON text holds more than {MAX_VALUES} values", where)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_int=_integer,
            parse_constant=_no_float,
        )
        _check_tree(value)
    except UnicodeDecodeError as error:
        raise _bad(f"the JSON text is not UTF-8 at byte {error.start}", where) from error
    except RecursionError as error:
        raise _bad("the JSON text is nested too deep", where) from error
    except _RefusedError as error:
        raise _bad(str(error), where) from error
    except ValueError as error:
        raise _bad(f"this is not JSON: {show(str(error))}", where) from error
    return value


def encode(value: Any, *, indent: Optional[int] = None) -> bytes:
    """The canonical UTF-8 spelling of ``value``: members sorted by name, nothing escaped that need not be.

    Without ``indent`` there is no white space at all; with it one member stands on a line and the text ends with a
    newline.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        ensure_ascii=False,
        allow_nan=False,
        indent=indent,
        separators=(",", ":") if indent is None else (",", ": "),
    )
    return (text if indent is None else text + "\n").encode("utf-8")


def _unique(pairs: List[Tuple[str, Any]]) -> "dict[str, Any]":
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"the JSON member {show(twice)[:60]!r} stands there twice")
    return members


def _no_float(text: str) -> NoReturn:
    raise _RefusedError(f"the JSON number {show(text)[:60]} is not a whole number")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER or text == "-0":
        raise _RefusedError(f"the JSON number {text[:20]} is out of range")
    return int(text)


def _check_tree(value: Any) -> None:
    level: List[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: List[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii() and _SURROGATE.search(item):
                raise _RefusedError("a JSON string holds half of a surrogate pair")
        level = below
        if not level:
            return
    raise _RefusedError(f"the JSON text is nested more than {MAX_DEPTH} levels deep")


def _bad(what: str, where: str) -> MalformedError:
    return MalformedError(what, where=where, remedy="it was damaged, or is another kind of file", finding="bad-json")


class Fields:
    """The members of one object, each taken once by its type; :meth:`done` refuses what is left over.

    ``where`` names the document and ``place`` the object inside it; ``error`` is the class of what is raised, with
    ``remedy``.
    """

    def __init__(
        self,
        value: Any,
        *,
        where: str,
        place: str = "",
        error: Type[RespinError] = MalformedError,
        finding: str,
        remedy: Optional[str] = None,
    ) -> None:
        self._where, self._place, self._error, self._finding, self._remedy = where, place, error, finding, remedy
        if not isinstance(value, Mapping):
            raise self.bad("is not an object")
        self._left = dict(value)

    def bad(self, what: str, key: str = "") -> RespinError:
        """The error that says what is wrong with ``key``, or with the object itself."""
        name = ".".join(part for part in (self._place, key) if part) or "the document"
        return self._error(f"{show(name)} {what}", where=self._where, finding=self._finding, remedy=self._remedy)

    def has(self, key: str) -> bool:
        """Whether ``key`` is there and has not been taken yet."""
        return key in self._left

    def take(self, key: str) -> Any:
        """The value of ``key``, whatever it is."""
        if key not in self._left:
            raise self.bad("is missing", key)
        return self._left.pop(key)

    def text(self, key: str, *, pattern: Optional[Pattern[str]] = None, limit: int = 255, empty: bool = False) -> str:
        """A printable string of at most ``limit`` characters that matches ``pattern`` in full."""
        return self._text(key, self.take(key), pattern, limit, empty)

    def sha256(self, key: str) -> str:
        """A SHA-256: 64 lower-case hex digits."""
        return self.text(key, pattern=SHA256_HEX, limit=64)

    def integer(self, key: str, *, limit: int = MAX_INTEGER) -> int:
        """A whole number from 0 to ``limit``."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
            raise self.bad(f"is not a whole number from 0 to {limit}", key)
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.bad("is neither true nor false", key)
        return value

    def array(self, key: str, *, limit: int) -> Sequence[Any]:
        """A list of at most ``limit`` values."""
        value = self.take(key)
        if not isinstance(value, list) or len(value) > limit:
            raise self.bad(f"is not a list of at most {limit}", key)
        return value

    def texts(
        self, key: str, *, limit: int, pattern: Optional[Pattern[str]] = None, length: int = 255, ordered: bool = False
    ) -> Tuple[str, ...]:
        """A list of strings, each as :meth:`text`; sorted and without duplicates unless the order is ``ordered``."""
        values = tuple(self._text(key, value, pattern, length, False) for value in self.array(key, limit=limit))
        if not ordered and list(values) != sorted(set(values)):
            raise self.bad("is not sorted, or names something twice", key)
        return values

    def fields(self, key: str) -> "Fields":
        """An object."""
        return self.inside(self.take(key), key)

    def objects(self, key: str, *, limit: int) -> Sequence["Fields"]:
        """A list of objects."""
        return [self.inside(value, f"{key}[{index}]") for index, value in enumerate(self.array(key, limit=limit))]

    def inside(self, value: Any, place: str) -> "Fields":
        """A part of this object, taken apart in the same way."""
        full = ".".join(part for part in (self._place, place) if part)
        return Fields(
            value, where=self._where, place=full, error=self._error, finding=self._finding, remedy=self._remedy
        )

    def names(self) -> Tuple[str, ...]:
        """The keys that are left."""
        return tuple(self._left)

    def done(self) -> None:
        """Refuse the document if anything is left."""
        if self._left:
            raise self.bad("is not a known key", min(map(str, self._left))[:80])

    def _text(self, key: str, value: Any, pattern: Optional[Pattern[str]], limit: int, empty: bool) -> str:
        if not isinstance(value, str):
            raise self.bad("is not a string", key)
        if len(value) > limit or (not value and not empty):
            raise self.bad(f"is empty or longer than {limit} characters", key)
        if not printable(value):
            raise self.bad("is not a printable string", key)
        if pattern is not None and value and not pattern.fullmatch(value):
            raise self.bad(f"may not be {value!r}", key)
        return value
