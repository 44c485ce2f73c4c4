"""JSON from outside, read strictly."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respin import strictjson
from respin.errors import MalformedError, RespinError, UsageError

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-strictjson.MAX_INTEGER, strictjson.MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


def decode(text: "bytes | str", limit: int = 1 << 20) -> object:
    return strictjson.decode(text.encode() if isinstance(text, str) else text, where="x.json", limit=limit)


@given(TREES)
@settings(max_examples=100, deadline=None)
def test_what_is_encoded_is_read_back_and_other_readers_agree(tree: object) -> None:
    for indent in (None, 2):
        text = strictjson.encode(tree, indent=indent)
        assert decode(text) == tree
        assert json.loads(text) == tree


def test_the_canonical_spelling() -> None:
    value = {"b": [1, {"d": "ä\n"}], "a": True}
    assert strictjson.encode(value) == '{"a":true,"b":[1,{"d":"ä\\n"}]}'.encode()
    assert strictjson.encode({"a": [1]}, indent=2) == b'{\n  "a": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"x": {"a": 1, "\\u0061": 2}}',
        "1.0",
        "1e3",
        "NaN",
        "-Infinity",
        "-0",
        str(2**53),
        "1" * 100_000,
        '"\\ud800"',
        '{"\\udfff": 1}',
        "\ufeff1",
        b'"\xff"',
        "",
        "{} {}",
        "[" * 33 + "]" * 33,
        "[" * 200_000,
        '{"a":' * 100_000,
    ],
)
def test_refused(text: "bytes | str") -> None:
    with pytest.raises(MalformedError) as caught:
        decode(text)
    assert caught.value.finding == "bad-json"
    assert caught.value.where == "x.json"


def test_the_size_is_limited() -> None:
    assert decode('"aaaaa"', limit=7) == "aaaaa"
    with pytest.raises(MalformedError):
        decode('"aaaaaa"', limit=7)


def test_the_number_of_values_is_limited() -> None:
    assert decode("[" + "[]," * 1000 + "[]]") == [[]] * 1001
    with pytest.raises(MalformedError, match="values"):
        decode("[" + "[]," * 1_000_000 + "[]]", limit=1 << 24)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except MalformedError:
        pass


def fields(value: object, error: "type[RespinError]" = MalformedError) -> strictjson.Fields:
    return strictjson.Fields(value, where="x.json", place="top", error=error, finding="bad-x")


def test_fields_take_an_object_apart() -> None:
    taken = fields({"a": "x", "n": 3, "b": False, "l": ["p", "q"], "o": {"k": "v"}, "s": "0" * 64, "m": [{}, {}]})
    assert taken.text("a", pattern=re.compile("[a-z]")) == "x"
    assert taken.integer("n", limit=3) == 3
    assert taken.boolean("b") is False
    assert taken.texts("l", limit=2) == ("p", "q")
    assert taken.fields("o").text("k") == "v"
    assert taken.sha256("s") == "0" * 64
    assert [one.names() for one in taken.objects("m", limit=2)] == [(), ()]
    taken.done()


@pytest.mark.parametrize(
    ("value", "take"),
    [
        ({}, lambda f: f.text("a")),
        ({"a": 1}, lambda f: f.text("a")),
        ({"a": ""}, lambda f: f.text("a")),
        ({"a": "x" * 256}, lambda f: f.text("a")),
        ({"a": "x\n"}, lambda f: f.text("a")),
        ({"a": "x\u202e"}, lambda f: f.text("a")),
        ({"a": "A"}, lambda f: f.text("a", pattern=re.compile("[a-z]"))),
        ({"a": True}, lambda f: f.integer("a")),
        ({"a": -1}, lambda f: f.integer("a")),
        ({"a": 4}, lambda f: f.integer("a", limit=3)),
        ({"a": 0}, lambda f: f.boolean("a")),
        ({"a": "xy"}, lambda f: f.texts("a", limit=9)),
        ({"a": ["y", "x"]}, lambda f: f.texts("a", limit=9)),
        ({"a": ["x", "x"]}, lambda f: f.texts("a", limit=9)),
        ({"a": ["x", "y"]}, lambda f: f.texts("a", limit=1)),
        ({"a": []}, lambda f: f.fields("a")),
        ({"a": "0" * 63 + "A"}, lambda f: f.sha256("a")),
        ({"a": 1}, lambda f: f.done()),
        ([], lambda f: f.done()),
    ],
)
def test_fields_refuse_what_is_not_as_described(value: object, take: object) -> None:
    for error in (MalformedError, UsageError):
        with pytest.raises(error, match=r"^x\.json: top") as caught:
            take(fields(value, error))  # type: ignore[operator]
        assert caught.value.finding == "bad-x"
