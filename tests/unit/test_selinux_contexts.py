"""File contexts: held against libselinux line by line, pattern by pattern, and on Debian's reference policy."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Tuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from respin.errors import MalformedError, UnsupportedError
from respin.formats.selinux import FileContexts, Pattern
from respin.formats.selinux.pattern import Steps
from respin.limits import LIMITS
from tests.support.selinux import Oracle, reference_policy

FILE, DIRECTORY, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
TYPES = {
    "--": FILE,
    "-d": DIRECTORY,
    "-l": LINK,
    "-c": stat.S_IFCHR,
    "-b": stat.S_IFBLK,
    "-s": stat.S_IFSOCK,
    "-p": stat.S_IFIFO,
}


def label(name: str) -> str:
    return f"system_u:object_r:{name}_t:s0"


def both(
    directory: Path, texts: Mapping[str, bytes], lookups: List[Tuple[bytes, int]]
) -> Tuple[List[Optional[bytes]], List[Optional[bytes]]]:
    """What we and what libselinux say; ``texts`` by the end of the file's name, "" for file_contexts itself."""
    path = directory / "file_contexts"
    for end, text in texts.items():
        Path(f"{path}{end}").write_bytes(text)
    named = {end: text for end, text in texts.items() if "subs" not in end}
    ours = FileContexts(named, texts.get(".subs", b""), texts.get(".subs_dist", b""))
    with Oracle(path) as oracle:
        return [ours.label(*one) for one in lookups], [oracle.label(*one) for one in lookups]


ORDINARY = f"""\
# the order of these lines matters
/.*                     {label("default")}
/                  -d   {label("root")}
/usr(/.*)?              {label("usr")}
/usr/(.*/)?bin(/.*)?    {label("bin")}
/usr/lib(/.*)?          {label("lib")}
/usr/lib/.*\\.so(\\.[^/]*)*  --  {label("shlib")}
   /etc/.*   --   {label("etc")}
/etc/passwd[-\\+]?  --  {label("passwd")}
/etc/exact\\.conf  {label("exact")}
/etc/exact.*  {label("late")}
/tmp/.*           <<none>>
/tmp              -d  {label("tmp")}
/dev/[^/]*  -c  {label("chr")}
/dev/[^/]*  -b  {label("blk")}
/dev/.*/s  -s  {label("sock")}
/dev/.*/p  -p  {label("fifo")}
/dev/.*/l  -l  {label("link")}
/etc/both  {label("first")}
/etc/both  {label("second")}
"""
PATHS = [
    *("/", "/usr", "/usr/", "/usr/bin", "/usr/bin/x", "/usr/x/y/bin/z", "/usr/binx", "/usr/lib", "/usr/lib/a.so"),
    *("/usr/lib/a.so.1.2", "/usr/lib/a.sox", "/etc", "/etc/passwd", "/etc/passwd-", "/etc/passwd+", "/etc/passwdx"),
    *("/etc/exact.conf", "/etc/exactxconf", "/etc/exactly", "/tmp", "/tmp/x", "/dev/x", "/dev/d/s", "/dev/d/p"),
    *("/dev/d/l", "/etc/both", "/etc/passwd\n", "/usr/lib/a.so\n", "/etc/a\nb", "/nowhere", "/bin/sh", "/lib64/a.so"),
    *("/local/lib/a.so", "/alias/x", "/alias", "/aliased", "/top/usr/bin/x", "/top", "/twice/x", "/chain/passwd"),
    *("/etc/p\xfcx", "/home/someone/.ssh/id", "/srv/x"),
]


def test_an_ordinary_policy(tmp_path: Path) -> None:
    texts = {
        "": ORDINARY.encode(),
        ".homedirs": f"/home/[^/]+/\\.ssh(/.*)?  {label('ssh')}\n/etc/both  {label('home')}\n".encode(),
        ".local": f"/etc/both  {label('local')}\n/srv(/.*)?  {label('srv')}\n".encode(),
        ".subs": b"/alias /usr/lib\n/twice /etc\n/twice /tmp\n/chain /links\n/top /\n",
        ".subs_dist": b"# comments, too\n\n/lib64 /usr/lib\n /bin   /usr/bin  more\n/links /etc\n/alias /tmp\n",
    }
    lookups = [(path.encode("latin-1"), mode) for path in PATHS for mode in TYPES.values()]
    ours, theirs = both(tmp_path, texts, lookups)
    assert dict(zip(lookups, ours)) == dict(zip(lookups, theirs))
    # and that both did look
    found = dict(zip(lookups, ours))
    assert found[b"/bin/sh", FILE] == label("bin").encode()
    assert found[b"/etc/both", FILE] == label("local").encode()
    assert found[b"/etc/exact.conf", FILE] == label("exact").encode()
    assert found[b"/tmp/x", FILE] is None
    assert len(set(ours)) > 15


# Pieces of which every pattern is made; each is something that PCRE could take differently.
_ATOMS = st.sampled_from(
    [
        *("a", "b", "/", "ab", "/a", "\\.", "\\+", "\\-", "-", ".", "%", "]", "}", "{", "{x}", ",", "="),
        *("[ab]", "[^/]", "[^ab]", "[a-c]", "[]a]", "[^]a]", "[a-]", "[-a]", "[\\]a]", "[[:alpha:]]", "[^[:digit:]-]"),
        *("[a\\-c]", "[.-/]", "[[a]", "[a&&b]", "[\\d]", "\\d", "\\w", "\\S", "\\_", "()", "(|a)", "(?:b|/a)"),
    ]
)
_QUANTIFIERS = st.sampled_from(["", "", "", "", "*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}", "{0}"])


def _extended(inner: "st.SearchStrategy[str]") -> "st.SearchStrategy[str]":
    group = st.lists(inner, min_size=1, max_size=3).map("|".join).map("({})".format)
    return st.lists(st.tuples(inner | group, _QUANTIFIERS).map(_repeated), min_size=1, max_size=3).map("".join)


def _repeated(pair: Tuple[str, str]) -> str:
    text, quantifier = pair
    return f"({text}){quantifier}" if quantifier and text[-1:] in "*+?}" else text + quantifier


PATTERNS = st.recursive(_ATOMS, _extended, max_leaves=8)
# libselinux before 3.8 never matches these to anything.
_ESCAPED_STEM = re.compile(r"/[^/.^$?*+|\[({\\]*\\[^/.^$?*+|\[({]*/")
WHOLE = st.builds(
    "{}{}{}".format,
    st.sampled_from(["/", "/a/", "/a", "/b/a", "/(a/)?", "^/", "/a-/"]),
    st.lists(PATTERNS, min_size=1, max_size=2).map("".join) | st.lists(PATTERNS, max_size=3).map("|/".join),
    st.sampled_from(["", "", "(/.*)?", "/.*", "$", "[^/]*"]),
).filter(lambda text: not _ESCAPED_STEM.match(text))
SUBJECTS = st.lists(st.sampled_from(["/", "a", "b", "c", ".", "-", "+", "1", "_", "/a", "]", "{x}", "ab", "%"])).map(
    lambda parts: "/" + "".join(parts)
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(["/a|/b"], ["/a", "/ab", "/b", "/c/b", "/c"])
@example(["/a|/b/|/c"], ["/a", "/ab", "/b", "/x/b/y", "/xc", "/x/c", "/c", "/cx"])
@example(["/a/?"], ["/a", "/a/"])
@example(["/b{0}"], ["/", "/b"])
@given(st.lists(WHOLE, min_size=1, max_size=4), st.lists(SUBJECTS, min_size=1, max_size=12))
def test_any_pattern_as_libselinux_matches_it(patterns: List[str], subjects: List[str]) -> None:
    text = "".join(f"{pattern} {label(f'n{number}')}\n" for number, pattern in enumerate(patterns))
    lookups = [(subject.replace("//", "/").encode(), FILE) for subject in subjects]
    lookups = [one for one in lookups if b"//" not in one[0] and (one[0] == b"/" or not one[0].endswith(b"/"))]
    with tempfile.TemporaryDirectory() as name:
        try:
            ours, theirs = both(Path(name), {"": text.encode()}, lookups)
        except UnsupportedError:
            return  # refusing more than PCRE does is allowed; anything that PCRE refuses raises OSError here
    assert dict(zip(lookups, ours)) == dict(zip(lookups, theirs)), text


@settings(max_examples=200, deadline=None)
@given(PATTERNS, SUBJECTS)
def test_any_pattern_as_python_matches_it(pattern: str, subject: str) -> None:
    classes = {"[[:alpha:]]": "[A-Za-z]", "[^[:digit:]-]": "[^0-9-]", "[[a]": "[\\[a]", "[a&&b]": "[ab&]"}
    translated = pattern
    for posix, plain in classes.items():
        translated = translated.replace(posix, plain)
    wanted = re.compile(f"(?:{translated})\\n?".encode(), re.DOTALL).fullmatch(subject.encode())
    assert Pattern(f"(?:{pattern})".encode()).matches(subject.encode(), Steps(1_000_000)) == bool(wanted)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file contexts of the reference policy, with those of the distribution's substitutions beside them."""
    return reference_policy(tmp_path_factory.mktemp("policy"))


def _this_machine(most: int) -> Iterator[Tuple[bytes, int]]:
    found = []
    for top in ("/usr", "/etc", "/var", "/opt", "/bin"):
        for directory, directories, files in os.walk(top):
            found += [os.path.join(directory, name) for name in (*directories, *files)]
    for path in sorted(found)[:: max(1, len(found) // most)]:
        try:
            yield os.fsencode(path), os.lstat(path).st_mode
        except FileNotFoundError:
            continue  # another process took it away


def test_the_reference_policy(policy: Path) -> None:
    lines = [line.split() for line in policy.read_text().splitlines()]
    assert len(lines) > 5000
    # What the patterns themselves speak of, plain and with something behind it, and what lies on this machine.
    spoken = [re.sub(r"\(/\.\*\)\?|\\|\(|\)\??|\.\*|\[\^/\]\*", "", fields[0]) for fields in lines[::30]]
    lookups = [
        (path.encode(), mode)
        for place in spoken
        if "//" not in place
        for path, mode in ((place, FILE), (place, DIRECTORY), (f"{place}/more/x.so.1", FILE))
        if not path.endswith("/")
    ]
    lookups += list(_this_machine(300))
    subs = policy.with_name("file_contexts.subs_dist").read_bytes()
    ours, theirs = both(policy.parent, {"": policy.read_bytes(), ".subs_dist": subs}, lookups)
    assert dict(zip(lookups, ours)) == dict(zip(lookups, theirs))
    assert len(set(ours)) > 60


def test_every_pattern_of_the_reference_policy_is_understood(policy: Path) -> None:
    for line in policy.read_bytes().splitlines():
        Pattern(line.split()[0])


CONTEXT = label("x").encode()


@pytest.mark.parametrize(
    "line",
    [
        b"/only-a-pattern",
        b"/x -q " + CONTEXT,
        b"/x --- " + CONTEXT,
        b"/x no-context",
        b"/x user:role",
        "/ü ".encode() + CONTEXT,
        b"/x -- system_u:object_r:x\x00_t:s0",
        b"/x :::",
    ],
)
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    FileContexts({"name": b"/x " + CONTEXT})
    with pytest.raises(MalformedError, match="file contexts") as caught:
        FileContexts({"name": b"\n" + line + b"\n"})
    assert (caught.value.where, caught.value.finding) == ("name, line 2", "selinux-contexts")


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "/x(",
            "/x)",
            "/(x",
            "/[x",
            "/x**",
            "/*+",
            "/x*+",
            "/x{2}{2}",
            "*",
            "/(?=x)",
            "/(?<!x)y",
            "/(?i)x",
            "/(x)\\1",
        ),
        *("/x\\", "/\\bx", "/x\\z", "/\\Qx", "/x^y", "/x$y", "/(^x)", "/(x$)", "/[b-a]", "/[[:none:]]", "/[[.a.]]"),
        *("/[a-\\d]", "/(*FAIL)", "/(+)", "/x{1001}", "/x{3,2}", "/x{99999999999}", "/x{1,99999999999}", "/\\x41"),
        *("(" * 51 + "x" + ")" * 51, "/" + "x" * LIMITS.selinux_pattern, "/((x{100}){100}){100}", "/((){1000}){1000}"),
    ],
    ids=lambda pattern: pattern[:20],
)
def test_a_pattern_that_is_not_regular_or_too_large_is_refused(pattern: str) -> None:
    contexts = FileContexts({"name": f"/.* {label('default')}\n{pattern} {label('x')}\n".encode()})
    with pytest.raises(UnsupportedError) as caught:
        looked_up(contexts, b"/x", b"/xy", b"/", b"/" + b"x" * LIMITS.selinux_pattern)
    assert caught.value.finding == "selinux-pattern"


def looked_up(contexts: FileContexts, *paths: bytes) -> List[Optional[bytes]]:
    """The labels of some files."""
    return [contexts.label(path, FILE) for path in paths]


@pytest.mark.parametrize(
    "pattern",
    ["/(.*)*x", "/((.*)*)*x", "/(a|a)*x", "/(a?){300}x", "/" + ".*" * 300 + "x", "/(.*a){200}x", "/.*a.{400}x"],
    ids=lambda pattern: pattern[:20],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    contexts = FileContexts({"name": f"{pattern} {label('x')}\n".encode()})
    before = time.process_time()
    for length in (10, 100, 1000, 4095):
        for end in (b"", b"x"):
            with suppress(UnsupportedError):
                contexts.label(b"/" + b"a" * length + end, FILE)
    assert time.process_time() - before < 20


def test_too_many_entries_are_refused() -> None:
    text = b"/x " + CONTEXT + b"\n"
    many = text * (LIMITS.selinux_contexts // 100)
    assert len(FileContexts({"name": many})) == LIMITS.selinux_contexts // 100
    with pytest.raises(MalformedError, match="too many"):
        FileContexts({"name": many * 101})
