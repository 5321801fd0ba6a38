"""Keys, prefixes, globs, ranges and errors, without a store."""

import copy
import pickle
import re
import subprocess
import sys
from fnmatch import translate
from importlib import import_module
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdall
from holdall import errors
from holdall.errors import InvalidArgumentError, InvalidKeyError, StoreError
from holdall.keys import MAX_KEY_BYTES, check_key, check_prefix, glob_prefix, matcher, past
from holdall.ranges import check_range, cut, span
from holdall.testing import BAD_KEYS, GOOD_KEYS

KEYS = st.text(min_size=1, max_size=300)


def test_good_keys_pass_and_bad_ones_are_told_why():
    for key in GOOD_KEYS:
        assert check_key(key) == key
    for key in BAD_KEYS:
        with pytest.raises(InvalidKeyError) as caught:
            check_key(key)
        assert isinstance(caught.value, ValueError)
        assert caught.value.message


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "at least one character"),
        ("/a", "starts nor ends"),
        ("a/", "starts nor ends"),
        ("a//b", "empty segment"),
        ("a/../b", re.escape("no segment '..'")),
        (".", re.escape("no segment '.'")),
        ("a\x00b", "control characters"),
        ("a\x85", "control characters"),
        ("\ud800", "surrogates"),
        ("x" * 1025, "at most 1024 UTF-8 bytes, this one 1025"),
        ("é" * 513, "this one 1026"),
        (b"a", "a str, not bytes"),
        (None, "a str, not NoneType"),
    ],
)
def test_the_message_says_which_rule(key: object, reason: str):
    with pytest.raises(InvalidKeyError, match=reason):
        check_key(key)


@given(KEYS)
def test_a_key_is_what_the_rules_say(key: str):
    segments = key.split("/")
    sound = (
        all(segment not in ("", ".", "..") for segment in segments)
        and not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in key)
        and len(key.encode(errors="replace")) <= MAX_KEY_BYTES
    )
    if sound:
        assert check_key(key) == key
    else:
        with pytest.raises(InvalidKeyError):
            check_key(key)


def test_a_str_of_another_class_becomes_a_str():
    class Name(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "../escape"

    assert check_key(Name("a/b")) == "a/b"
    assert type(check_key(Name("a/b"))) is str
    with pytest.raises(InvalidKeyError):
        check_key(Name(".."))
    assert type(check_prefix(Name(".."))) is str
    assert check_prefix(Name("..")) == ".."


def test_any_str_is_a_prefix():
    assert check_prefix(None) == check_prefix("") == ""
    for prefix in ("/", "..", "a//", "\x00", "\ud800", "x" * 5000):
        assert check_prefix(prefix) == prefix
    for wrong in (1, b"a", ["a"], True):
        with pytest.raises(InvalidArgumentError):
            check_prefix(wrong)


@given(KEYS, KEYS)
def test_past_a_prefix_comes_no_key_that_has_it(prefix: str, key: str):
    try:
        check_key(key)
    except InvalidKeyError:
        return
    assert (key > past(prefix)) == (key > prefix and not key.startswith(prefix))


def test_past_the_last_character():
    last = "\U0010ffff" * 256
    assert check_key(last) <= past("\U0010ffff")


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("*.txt", ["a.txt", ".txt"], ["a/b.txt", "a.txt.gz", "a.TXT"]),
        ("**", ["a", "a/b/c"], []),
        ("**/*.txt", ["a.txt", "x/a.txt", "x/y/z.txt"], ["a.pdf"]),
        ("a/**", ["a/b", "a/b/c"], ["b/a"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/z/y"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
        ("?", ["a", "é", "😀"], ["", "ab", "/"]),
        ("[abc]x", ["ax", "cx"], ["dx", "x", "/x"]),
        ("[!abc]x", ["dx"], ["ax", "/x"]),
        ("[]]", ["]"], ["a", "[]]"]),
        ("[!]]", ["a"], ["]"]),
        ("[a-c]", ["b"], ["-", "d"]),
        ("[a", ["[a"], ["a"]),
        ("[", ["["], []),
        ("[^a]", ["^", "a"], ["b"]),
        ("[\\]", ["\\"], ["a"]),
        ("[&&~||]", ["&", "~", "|"], ["a"]),
        ("[[:alpha:]]", ["a]", ":]", "[]"], ["b]"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a+(b)|{c}$^", ["a+(b)|{c}$^"], ["ab"]),
        ("*a*b*c*", ["abc", "xaybzc", "abcd"], ["acb", "a/b/c"]),
        ("a\nb", ["a\nb"], ["ab"]),
    ],
)
def test_a_glob(glob: str, yes: list[str], no: list[str]):
    matches = matcher(glob)
    assert [key for key in yes if not matches(key)] == []
    assert [key for key in no if matches(key)] == []
    assert all(key.startswith(glob_prefix(glob)) for key in yes)


@given(st.text("ab*?[]!-.", max_size=8), st.text("ab!-.]", min_size=1, max_size=8))
def test_a_glob_in_a_segment_is_as_in_fnmatch(glob: str, key: str):
    if glob == "**":
        return
    try:
        matches = matcher(glob)
    except InvalidArgumentError:
        return
    if "[" in glob and "-" in glob:
        # fnmatch drops a range that is empty, where a glob of keys is refused.
        return
    assert bool(matches(key)) == bool(re.match(translate(glob), key)), (glob, key)


@given(st.text("ab[]!-&|~^\\#: ", max_size=10))
def test_no_glob_raises_but_by_name(glob: str):
    """Nor warns: warnings are errors here."""
    try:
        matcher(f"[{glob}]")
    except InvalidArgumentError as error:
        assert "bad set" in str(error)  # noqa: PT017


def test_what_is_no_glob():
    for wrong in (1, None, b"*", ["*"]):
        with pytest.raises(InvalidArgumentError):
            matcher(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=re.escape("[b-a]")):
        matcher("x[b-a]")


def test_stars_do_not_take_for_ever():
    assert not matcher("*a" * 12 + "b")("a" * 40)
    assert not matcher("**/" * 6 + "b")("/".join("a" * 30))


@given(st.integers(-30, 30), st.one_of(st.none(), st.integers(-30, 30)), st.integers(0, 20))
def test_a_span_is_a_slice(start: int, stop: int | None, size: int):
    data = bytes(range(size))
    low, high = span(start, stop, size)
    assert 0 <= low <= high <= size
    assert data[low:high] == data[start:stop]


@given(st.lists(st.binary(max_size=6), max_size=8), st.integers(0, 50), st.integers(0, 50))
def test_cut_gives_the_bytes_between(pieces: list[bytes], start: int, stop: int):
    assert b"".join(cut(iter(pieces), start, stop)) == b"".join(pieces)[start:stop]


def test_cut_reads_no_further_than_it_must():
    pieces = iter([b"abc", b"def", b"ghi"])
    assert b"".join(cut(pieces, 1, 5)) == b"bcde"
    assert next(pieces) == b"ghi"


def test_the_ends_of_a_range_are_ints():
    check_range(0, None)
    check_range(-3, 1 << 80)
    for wrong in ("1", 1.0, True, b"1", [], PurePosixPath("1")):
        with pytest.raises(InvalidArgumentError):
            check_range(wrong, None)
        with pytest.raises(InvalidArgumentError):
            check_range(0, wrong)


KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_names_its_key_and_survives_a_pickle(kind: type[StoreError]):
    error = kind("what to do", key="a/'b'")
    assert isinstance(error, StoreError)
    assert (error.message, error.key) == ("what to do", "a/'b'")
    assert str(error) == """"a/'b'": what to do"""
    assert str(kind("what to do")) == "what to do"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.key, str(again)) == (error.message, error.key, str(error))
    assert vars(again) == vars(error)
    for same in (error, again, copy.copy(error), copy.deepcopy(error)):
        assert same.args == ("what to do", "a/'b'")
        assert repr(same) == f"""{kind.__name__}('what to do', key="a/'b'")"""
        assert getattr(same, "filename", "a/'b'") == "a/'b'"
    # A store fills the key in later.
    error.key = "other"
    assert error.args == ("what to do", "other")
    assert eval(repr(error), {kind.__name__: kind}).key == "other"
    assert kind("what to do").args == ("what to do",)
    assert repr(kind("what to do")) == f"{kind.__name__}('what to do')"


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (errors.BlobNotFoundError, (KeyError, FileNotFoundError)),
        (errors.BlobExistsError, (errors.ConcurrencyError, FileExistsError)),
        (errors.InvalidKeyError, (errors.InvalidArgumentError, ValueError)),
        (errors.InvalidTypeError, (errors.InvalidArgumentError, TypeError)),
        (errors.InvalidKeyTypeError, (errors.InvalidKeyError, TypeError)),
        (errors.InvalidDataError, (errors.SerializationError, TypeError)),
        (errors.ReadOnlyError, (errors.UnsupportedOperation, PermissionError)),
        (errors.StoreClosedError, (errors.StoreUnavailableError, ValueError)),
        (errors.MissingDependencyError, (ImportError,)),
    ],
)
def test_errors_are_what_python_would_raise(kind: type[StoreError], bases: tuple[type, ...]):
    for base in bases:
        assert issubclass(kind, base)


def test_errors_keep_what_they_carry():
    error = errors.ConcurrencyError(key="k", expected="1", actual="2")
    again = pickle.loads(pickle.dumps(error))
    assert (again.expected, again.actual) == ("1", "2")
    failures = {"child": ValueError("x")}
    partial = errors.PartialWriteError("one failed", failures=failures)
    assert partial.failures is failures
    assert errors.PartialWriteError().failures == {}
    missing = errors.BlobNotFoundError(key="k")
    assert (missing.filename, missing.strerror) == ("k", "no such blob")


def test_an_error_names_its_key_in_args_and_repr_wherever_it_comes_from(tmp_path: Path):
    store = holdall.FilesystemStore(tmp_path)
    for call, kind in (
        (lambda: store["absent"], errors.BlobNotFoundError),
        (lambda: store.put("absent", b"", expect="1"), errors.ConcurrencyError),
        (lambda: store.put("absent", 5), errors.InvalidDataError),
        (lambda: holdall.ReadOnlyStore(store).put("absent", b""), errors.ReadOnlyError),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.args[1] == caught.value.key == "absent"
        assert repr(caught.value).endswith(", key='absent')")
        assert str(caught.value) == f"'absent': {caught.value.message}"


def test_a_missing_package_hides_no_import_behind_it():
    # In a process of its own: what is imported here already stays.
    program = """
import sys, holdall
sys.modules["lz4.frame"] = sys.modules["blake3"] = None
for call in (
    lambda: holdall.CompressedStore(holdall.MemoryStore(), "lz4").put("a", b""),
    lambda: holdall.ChecksumStore(holdall.MemoryStore(), "blake3").put("a", b""),
):
    try:
        call()
    except ImportError as error:
        assert isinstance(error, holdall.MissingDependencyError)
        assert "pip install" in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__
    else:
        raise AssertionError("it was there")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_front_door_shows_public_names_only():
    assert dir(holdall) == sorted(holdall.__all__)
    assert not [name for name in dir(holdall) if name.startswith("_") and name != "__version__"]
    names: dict[str, object] = {}
    exec("from holdall import *", names)
    assert names.keys() - {"__builtins__"} == set(holdall.__all__)


@pytest.mark.parametrize("module", ["dicts", "errors", "layers.caching", "stores.git", "transfer"])
def test_type_checkers_see_no_name_that_the_front_door_lacks(module: str) -> None:
    assert set(import_module(f"holdall.{module}").__all__) <= set(holdall.__all__)


def test_nothing_is_logged_unless_the_program_asks():
    code = "import holdall, logging; logging.getLogger('holdall.x').warning('heard')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_every_error_is_at_the_front_door():
    assert {name for name in dir(holdall) if name.endswith("Error")} == {
        name for name in errors.__all__ if name.endswith("Error")
    }
    assert holdall.UnsupportedOperation is errors.UnsupportedOperation
