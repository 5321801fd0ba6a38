"""Keys: two calls have one key if they are the same call, and only then."""

from __future__ import annotations

import functools
import itertools
import os
import random
import subprocess
import sys
from collections import defaultdict, namedtuple
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from tests.memoize import calls

from holdall import InvalidArgumentError, InvalidTypeError, MemoryStore, cached
from holdall.memoize.canonical import FormlessError, encode
from holdall.memoize.keys import Keys

GOLDEN = Path(__file__).with_name("golden.txt").read_text().splitlines()
ROOT = Path(__file__).parents[2]


def test_two_hundred_keys_are_what_they_were() -> None:
    now = [key.removeprefix("holdall.cached/1/") for _, key in calls.with_keys()]
    kept = [line.partition(" ")[0] for line in GOLDEN]
    assert len(kept) >= 200
    pairs = zip(calls.with_keys(), now, kept, strict=True)
    assert [shown for (shown, _), one, two in pairs if one != two] == []


def test_no_two_of_them_are_one() -> None:
    kept = [line.partition(" ")[0] for line in GOLDEN]
    assert len(set(kept)) == len(kept)


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_they_are_the_same_in_another_process_with_other_hashes(seed: str) -> None:
    program = "from tests.memoize.calls import with_keys; print(*[key for _, key in with_keys()], sep='\\n')"
    path = os.pathsep.join([str(ROOT), *sys.path])
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [key for _, key in calls.with_keys()]


def test_a_call_is_bound_as_python_binds_it() -> None:
    @cached
    def call(a: Any, b: Any = 2, *rest: Any, c: Any = None, **more: Any) -> None: ...

    same = [
        call.key_for(1, 2, c=None),
        call.key_for(1),
        call.key_for(a=1),
        call.key_for(b=2, a=1),
        call.key_for(c=None, b=2, a=1),
    ]
    assert len(set(same)) == 1
    assert call.key_for(1, x=1, y=2) == call.key_for(1, y=2, x=1)
    assert (
        len({call.key_for(1, 2, 3), call.key_for(1, 2, (3,)), call.key_for(1, x=1), call.key_for(1, c=1)})
        == 4
    )


@pytest.mark.parametrize("wrong", ["call()", "call(1, 2, 3)", "call(1, a=1)", "call(1, x=1)"])
def test_wrong_arguments_are_python_s_own_error(wrong: str) -> None:
    @cached
    def call(a: Any, b: Any = 2) -> None: ...

    with pytest.raises(TypeError, match="call"):
        eval(wrong, {"call": call})


def test_a_key_that_is_remembered_is_that_of_another_process() -> None:
    """Values that are equal and yet differ, by their type or their sign, have their own keys at each call."""

    def call(a: Any, b: Any = None, c: int = 1) -> None: ...

    values: list[Any] = [0, False, 0.0, -0.0, 0j, "", b"", None, (), [], {}, {0}, frozenset({0})]
    values += [float("nan"), "x" * 2000]
    keys = Keys(call)

    def made(each: Any) -> list[str]:
        return [keys.quick(args) or "" for args in ((each,), (each, 0), (0, each, 2))]

    def fresh(each: Any) -> list[str]:
        named: list[dict[str, Any]] = [{"a": each}, {"b": 0, "a": each}, {"a": 0, "b": each, "c": 2}]
        return [Keys(call).of((), arguments) for arguments in named]

    first = [made(each) for each in values]
    assert first == [made(each) for each in values] == [fresh(each) for each in values]
    assert len({key for each in first for key in each}) == 3 * len(values)


def test_few_and_short_keys_are_remembered() -> None:
    def call(a: Any, b: Any = None) -> None: ...

    keys = Keys(call)
    for number in range(5000):
        keys.quick((number, "x" * number))
    known = [args for each in keys._known.values() for args in each]
    assert 0 < len(known) <= 4000
    assert all(len(text) < 1000 for _, text in known)


def test_positional_only_names_may_be_options() -> None:
    @cached
    def call(a: Any, /, **options: Any) -> Any:
        return a, options

    assert call(1, a=2) == (1, {"a": 2})
    assert call(1, a=3) == (1, {"a": 3})


def test_any_tree_of_values_has_a_key_of_its_own() -> None:
    """Values that are made at random are encoded alike only if they are alike."""
    rng = random.Random(14)
    leaves = [None, True, 0, 1, 1.0, -0.0, "", "a", "ab", b"", b"a", 256, "i", "s\0\0"]

    def make(depth: int) -> Any:
        if depth == 0 or rng.random() < 0.3:
            return rng.choice(leaves)
        kind = rng.choice([list, tuple, dict])
        members = [make(depth - 1) for _ in range(rng.randrange(4))]
        return dict(zip("abcd", members, strict=False)) if kind is dict else kind(members)

    seen: dict[bytes, str] = {}
    for _ in range(5_000):
        value = make(3)
        assert seen.setdefault(encode(value), repr(value)) == repr(value)


class Opaque:
    pass


class Loose(int):
    pass


class Zone(tzinfo):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Opaque(),
        [1, {"a": (Opaque(),)}],
        Loose(3),
        defaultdict(list),
        lambda: 1,
        len,
        iter(()),
        object(),
        datetime(2026, 1, 1, tzinfo=Zone()),
        np.array([object()]),
        open,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_lacks_a_canonical_form_is_refused_with_the_ways_out(value: object) -> None:
    called = []

    @cached
    def call(first: Any, second: Any = None) -> None:
        called.append(1)

    with pytest.raises(
        InvalidTypeError, match=r"'second'.*canonical form.*key=.*ignore='second'.*__cache_key__"
    ):
        call(1, value)
    assert not called


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    @cached
    def call(value: Any) -> None: ...

    with pytest.raises(InvalidTypeError, match="contains itself"):
        call(loop)


def test_the_error_says_where_the_culprit_is() -> None:
    @cached
    def call(value: Any) -> None: ...

    with pytest.raises(InvalidTypeError, match=r"\['rows'\]\[1\]"):
        call({"rows": [1, Opaque()]})


@pytest.mark.filterwarnings("ignore")
def test_arrays_and_frames_are_told_apart_by_what_they_hold() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    values = [
        grid,
        grid.T,
        grid.reshape(3, 2),
        grid.astype("f4"),
        grid.astype("i8"),
        grid.astype(">f8"),
        grid.ravel(),
        np.float64(1),
        np.float32(1),
        np.int64(1),
        np.bool_(True),
        np.datetime64("2026-01-01"),
        np.dtype("f4"),
        np.dtype("f8"),
        np.array(1.0),
        1.0,
        frame,
        frame.rename(columns={"a": "c"}),
        frame[["b", "a"]],
        frame.iloc[::-1],
        frame.set_index("a"),
        frame["a"],
        frame[["a"]],
        pl.DataFrame({"a": [1, 2]}),
        pl.Series("a", [1, 2]),
        pa.table({"a": [1, 2]}),
        pd.Timestamp("2026-01-01"),
        pd.Timestamp("2026-01-01", tz="Europe/Paris"),
        pd.Timestamp("2026-01-01 00:00:00.000000001"),
        pd.Timedelta(1),
    ]
    keys = [calls.one.key_for(value) for value in values]
    assert len(set(keys)) == len(keys)
    again = [grid.copy(), np.asfortranarray(grid), np.ascontiguousarray(grid)]
    assert {calls.one.key_for(each) for each in again} == {keys[0]}
    assert calls.one.key_for(frame.copy()) == calls.one.key_for(frame)


class Model(pydantic.BaseModel):
    a: int = 1


def test_models_count_by_their_fields() -> None:
    assert calls.one.key_for(Model()) == calls.one.key_for(Model())
    assert len({calls.one.key_for(each) for each in (Model(), Model(a=2), Model(a=1), {"a": 1})}) == 4


def test_what_a_dataclass_holds_besides_its_fields_counts_but_not_what_it_computed() -> None:
    @dataclass
    class Shape:
        side: int

        @functools.cached_property
        def area(self) -> int:
            return self.side**2

    shape = Shape(2)
    before = calls.one.key_for(shape)
    assert shape.area == 4
    assert calls.one.key_for(shape) == before
    shape.colour = "red"  # type: ignore[attr-defined]
    assert calls.one.key_for(shape) != before


def test_functions_that_capture_other_values_share_nothing() -> None:
    store = MemoryStore()

    def scaled(factor: Any) -> Any:
        @cached(store)
        def scale(x: int) -> Any:
            return x * factor

        return scale

    assert [scaled(factor)(3) for factor in (2, 3, 2.0, "a", [1])] == [6, 9, 6.0, "aaa", [1, 1, 1]]
    first, second = scaled(2), scaled(2)
    assert first.key_for(3) == second.key_for(3)


def test_functions_that_capture_what_has_no_form_share_nothing_unless_it_is_the_same_variable() -> None:
    store = MemoryStore()

    def asking(client: Any) -> Any:
        @cached(store)
        def ask(x: int) -> Any:
            return id(client)

        @cached(store)
        def again(x: int) -> Any:
            return id(client)

        return ask, again

    one, other = Opaque(), Opaque()
    (first, _), (second, _) = asking(one), asking(other)
    assert (first(1), second(1), first(1)) == (id(one), id(other), id(one))


def test_a_captured_list_counts_as_it_was_when_the_function_was_decorated() -> None:
    called: list[int] = []

    @cached
    def call(x: int) -> int:
        called.append(x)
        return x

    assert (call(1), call(1), call(2), called) == (1, 1, 2, [1, 2])


def test_with_a_version_captured_variables_don_t_count() -> None:
    def made(secret: object) -> Any:
        @cached(version=1)
        def call(x: int) -> object:
            return secret

        return call

    assert made(Opaque()).key_for(1) == made(Opaque()).key_for(1)


def test_a_function_within_a_function_may_call_itself() -> None:
    @cached
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(60) == 1548008755920


def test_classes_of_one_name_share_nothing() -> None:
    store = MemoryStore()

    def made(factor: int) -> Any:
        class Scale:
            by = factor

            @cached(store)
            def of(self, x: int) -> int:
                return x * self.by

        return Scale()

    two, three = made(2), made(3)
    assert (two.of(1), three.of(1), two.of(1)) == (2, 3, 2)


def test_a_subclass_shares_nothing_with_its_base() -> None:
    class Base:
        rate = 1

        @cached
        def of(self, x: int) -> int:
            return x * self.rate

        @cached
        @classmethod
        def name(cls) -> str:
            return cls.__name__

    class Other(Base):
        rate = 2

    assert (Base().of(5), Other().of(5), Base().of(5)) == (5, 10, 5)
    assert (Base.name(), Other.name(), Other().name()) == ("Base", "Other", "Other")


def test_self_is_left_out_unless_its_class_says_how_to_key_it() -> None:
    class Plain:
        def __init__(self, number: int) -> None:
            self.number = number

        @cached
        def get(self) -> int:
            return self.number

    class Keyed(Plain):
        def __cache_key__(self) -> object:
            return self.number

    assert (Plain(1).get(), Plain(2).get()) == (1, 1)
    assert (Keyed(1).get(), Keyed(2).get(), Keyed(1).get()) == (1, 2, 1)
    Keyed.__cache_key__ = lambda self: Opaque()  # type: ignore[method-assign]
    with pytest.raises(InvalidTypeError, match=r"__cache_key__ of .*Keyed returned"):
        Keyed(1).get()


def test_self_below_another_decorator_is_refused_rather_than_left_out() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call

    class Thing:
        @logged
        @cached
        def get(self) -> int:
            return 1

        @property
        @cached
        def size(self) -> int:
            return 1

    with pytest.raises(InvalidTypeError, match="put @cached above its other decorators"):
        Thing().get()
    with pytest.raises(InvalidTypeError, match="'self'"):
        Thing().size  # noqa: B018


@pytest.mark.parametrize("order", list(itertools.permutations(("static", "cached"))))
def test_a_static_method_has_no_self(order: tuple[str, str]) -> None:
    class Thing:
        def get(x: Any) -> Any:  # type: ignore[misc]
            return x

        for each in reversed(order):
            get = staticmethod(get) if each == "static" else cached(get)  # type: ignore[assignment]

    assert (Thing.get(1), Thing().get(2), Thing.get(2)) == (1, 2, 2)


def test_ignored_arguments_don_t_count() -> None:
    @cached(ignore=("log", "session"))
    def call(x: int, session: Any = None, *, log: Any = None) -> int:
        return x

    assert call.key_for(1, Opaque(), log=print) == call.key_for(1)
    with pytest.raises(InvalidArgumentError, match=r"ignore names logs, and the parameters of .*call are x"):
        cached(ignore="logs")(call.__wrapped__)


def test_ignored_options_don_t_count() -> None:
    @cached(ignore="trace")
    def call(**options: Any) -> None: ...

    assert call.key_for(a=1, trace=Opaque()) == call.key_for(a=1)


def test_a_key_of_one_s_own() -> None:
    @cached(key=lambda user, **_: user.name)
    def call(user: Any, limit: int = 1) -> str:
        return user.name

    class User:
        def __init__(self, name: str) -> None:
            self.name = name

    assert call.key_for(User("ada")) == call.key_for(User("ada"), limit=2) != call.key_for(User("bob"))

    @cached(key=lambda x: x)
    def other(x: Any) -> None: ...

    with pytest.raises(InvalidTypeError, match=r"key= of .*other returned"):
        other(Opaque())


def test_another_version_finds_nothing_and_the_source_doesn_t_matter() -> None:
    store = MemoryStore()

    def run(source: str, version: object = None) -> object:
        names: dict[str, Any] = {"__name__": "some.module"}
        exec(f"def call(x):\n    {source}", names)
        return cached(store, version=version)(names["call"])(1)

    assert run("return 'one'") == "one"
    assert run("return 'two'") == "one"
    assert run("return 'two'", "2") == "two"
    assert run("return 'three'", 2) == "three"
    assert run("return 'three'") == "one"


@pytest.mark.parametrize(
    "name", ["generator", "agenerator", "lambda", "class", "partial", "twice", "number", "callable"]
)
def test_what_can_t_be_cached_is_refused_at_once(name: str) -> None:
    def generator() -> Any:
        yield 1

    async def agenerator() -> Any:
        yield 1

    wrong: dict[str, Any] = {
        "generator": generator,
        "agenerator": agenerator,
        "lambda": lambda: 1,
        "class": Opaque,
        "partial": functools.partial(max, 1),
        "twice": cached(test_ignored_options_don_t_count),
        "number": 5,
        "callable": functools.partial(print),
    }
    with pytest.raises((InvalidArgumentError, InvalidTypeError)):
        cached()(wrong[name])


def test_a_function_of_no_module_says_so() -> None:
    code = "@cached\ndef squares(): return 1"
    with pytest.raises(InvalidTypeError, match=r"^squares lacks the name of a module.* a '__name__'$"):
        exec(code, {"cached": cached})
    given: dict[str, Any] = {"cached": cached, "__name__": "given"}
    exec(code, given)
    assert given["squares"]() == 1


def test_a_generator_or_a_coroutine_that_is_returned_is_refused() -> None:
    async def later() -> int:
        return 1

    @cached
    def numbers() -> Any:
        return (x for x in range(3))

    @cached
    def promise() -> Any:
        return later()

    with pytest.raises(InvalidTypeError, match="generator"):
        numbers()
    with pytest.raises(InvalidTypeError, match="async def"):
        promise()


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0},
        {"ttl": "1h"},
        {"max_bytes": 0},
        {"max_entries": -1},
        {"max_entries": 1.5},
        {"refresh_after": -1},
        {"ttl": 5, "refresh_after": 5},
        {"strict": 1},
        {"errors": BaseException},
        {"errors": ["ValueError"]},
        {"key": "x"},
        {"ignore": 5},
        {"version": object()},
        {"key": str, "ignore": ("x",)},
        {"store": 5},
    ],
    ids=lambda options: "+".join(options),
)
def test_options_that_can_t_be_right_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidArgumentError, InvalidTypeError)):

        @cached(**options)
        def call(x: int) -> None: ...


def test_captured_functions_of_one_name_are_told_apart() -> None:
    store = MemoryStore()

    def apply(function: Any) -> Any:
        @cached(store)
        def applied(x: int) -> int:
            return function(x)

        return applied

    assert [apply(each)(5) for each in (calls.DOUBLE, calls.TRIPLE)] == [10, 15]
    assert [apply(each)(5) for each in (calls.plus_one, calls.plus_two)] == [6, 7]
    assert apply(calls.plain)(5) == apply(calls.plain)(5) == 5


def test_what_a_subclass_of_a_record_adds_counts() -> None:
    class Open(attrs.make_class("Base", ["x"])):
        def __init__(self, x: int, more: int) -> None:
            super().__init__(x)
            self.more = more

    @dataclass(slots=True)
    class Slotted:
        x: int

    class More(Slotted):
        __slots__ = ("__more",)

        def __init__(self, x: int, more: int) -> None:
            super().__init__(x)
            self.__more = more

    class Pair(namedtuple("Pair", "x")):
        def __new__(cls, x: int, more: int) -> Any:
            made = super().__new__(cls, x)
            made.more = more
            return made

    for kind in (Open, More, Pair):
        made: Any = kind
        assert encode(made(1, 2)) == encode(made(1, 2)) != encode(made(1, 3))

    class Rows(attrs.make_class("Listing", ["x"], bases=(list,))):
        pass

    with pytest.raises(FormlessError):
        encode(Rows(1))
