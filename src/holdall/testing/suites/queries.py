"""A metadata backend finds what `holdall.catalog.query` says, in its order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.query import (
    ABSENT_FIELD,
    FIELDS,
    All,
    Compare,
    Either,
    Negation,
    Node,
    Order,
    Path,
    Query,
    arrange,
    compile_after,
    compile_node,
    parse_where,
    value_at,
)
from holdall.catalog.row import Row
from holdall.testing.suites.backends import AWKWARD, KEYS, BackendBase, new_row, put, write

NAMES = ("a", "b", *AWKWARD)
NUMBERS: tuple[Any, ...] = (
    0, 1, 1.0, -1, 0.1, -0.0, 0.30000000000000004, 0.3, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, 2**63,
    2**63 + 1, float(2**63), -(2**63), -(2**63) - 1, 2**70, 2**70 + 1, 10**23, 1e23, 1e22, 10**400, 1e-300,
    5e-324, 1.7976931348623157e308, 1e16, 10**16 + 1,
)  # fmt: skip
SCALARS: tuple[Any, ...] = (*NUMBERS, True, False, None, *AWKWARD, "1", "ab", "abc", "ab\uffff", "b")
ASKED: tuple[Any, ...] = (*SCALARS, "a\0", "\ud800", "ab\udfff", math.inf, -math.inf)
"""What may be asked for, though nothing equals some of it."""


def _mostly(few: Sequence[Any], many: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(few), st.sampled_from(few), st.sampled_from(many))


_name = _mostly(("a", "b"), NAMES)
_scalar = _mostly((0, 1, 1.0, True, "a", "ab", None), SCALARS)
_value = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_name, inner, max_size=2),
    max_leaves=4,
)
_metadata = st.dictionaries(_name, _value, max_size=3)


@st.composite
def _rows(draw: st.DrawFn) -> list[Row]:
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=9))
    return [
        new_row(
            key,
            draw(st.integers(1, 2)),
            sequence=at + 1,
            size=draw(st.sampled_from((0, 1, 10, 2**40))),
            codec=draw(st.sampled_from(("", "lz4"))),
            type=draw(st.sampled_from(AWKWARD)),
            metadata=draw(_metadata),
        )
        for at, key in enumerate(keys)
    ]


_path = st.one_of(
    st.lists(_name, min_size=1, max_size=3).map(lambda names: ("metadata", *names)),
    st.lists(_name, min_size=1, max_size=1).map(lambda names: ("metadata", *names)),
    st.sampled_from(FIELDS).map(lambda name: (name,)),
)
_asked = _mostly((0, 1, 1.0, True, "a", "ab", None), (*ASKED, *KEYS, [1], [True], {"a": 1}, {}, []))
_comparison = st.one_of(
    st.builds(Compare, _path, st.sampled_from(("==", "!=")), _asked),
    st.builds(
        Compare,
        _path,
        st.sampled_from(("<", "<=", ">", ">=")),
        _mostly((0, 1, "a", "ab"), [*NUMBERS, *AWKWARD, "a\0", "\ud800", math.inf, -math.inf, *KEYS]),
    ),
    st.builds(Compare, _path, st.just("in"), st.lists(_asked, max_size=3)),
    st.builds(Compare, _path, st.just("prefix"), st.sampled_from(("", "a", "ab", "\ud800", *AWKWARD))),
    st.builds(Compare, _path, st.just("exists"), st.booleans()),
)
_node: st.SearchStrategy[Node] = st.recursive(
    _comparison,
    lambda inner: st.one_of(
        st.builds(Negation, inner),
        st.lists(inner, max_size=3).map(lambda nodes: All(tuple(nodes))),
        st.lists(inner, max_size=3).map(lambda nodes: Either(tuple(nodes))),
    ),
    max_leaves=4,
)
_order = st.builds(Order, st.one_of(_path, st.just(("key",))), st.booleans())


def check_found(backend: MetadataBackend, rows: list[Row], query: Query) -> None:
    """Check that a backend finds what a query means among these rows, and no row twice."""
    matches, follows = compile_node(query.where), compile_after(query.order, query.after)
    wanted = [row for row in arrange(rows, query.order) if matches(row) and follows(row)][: query.limit]
    found = list(backend.find(query))
    assert all(map(follows, found)), query
    assert [row for row in found if matches(row)][: query.limit] == wanted, query
    assert found == arrange(found, query.order), query
    assert len({row.key for row in found}) == len(found), query


class QueryTests(BackendBase):
    """A metadata backend finds what `holdall.catalog.query` says, in its order."""

    @pytest.mark.parametrize("indexed", [False, True])
    def test_random_queries(self, backend: MetadataBackend, indexed: bool) -> None:
        if indexed:
            for name in ("metadata.a", "metadata.b", "metadata.a.b", "metadata.it's", "size", "type"):
                backend.create_index(tuple(name.split(".")))

        @settings(
            max_examples=self._effort(self.queries, self.queries // 3),
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.function_scoped_fixture,
                HealthCheck.data_too_large,
            ],
        )
        @given(_rows(), st.lists(st.tuples(_node, _order), min_size=1, max_size=8), st.data())
        def check(rows: list[Row], queries: list[tuple[Node, Order]], data: st.DataObject) -> None:
            def fill(t: Transaction) -> None:
                for key in KEYS:
                    t.drop_row(key)
                put(*rows)(t)

            backend.transact(fill)
            for where, order in queries:
                check_found(backend, rows, Query(where))
                check_found(backend, rows, Query(where, order))
                limit = data.draw(st.sampled_from((None, 1, 3)))
                positions: list[tuple[Any, str]] = [("a", "a"), (None, ""), (2**63, "é"), (0.1, "a")]
                for row in rows:
                    value = value_at(row, order.path)
                    positions.append((None if value is ABSENT_FIELD else value, row.key))
                after = data.draw(st.sampled_from(positions))
                check_found(backend, rows, Query(where, order, after, limit))

        check()

    def test_each_comparison(self, backend: MetadataBackend) -> None:
        """Each value against each, by each operator: what chance may pass over."""
        values = [*SCALARS, [], [1], {}, {"a": 1}, {"a": True}]
        rows = [new_row(f"k{at:03}", metadata={"a": value}) for at, value in enumerate(values)]
        rows += [new_row("none")]
        write(backend, put(*rows))
        path = ("metadata", "a")
        for turn in range(2):
            for value in (*ASKED, [], [1], [True], {}, {"a": 1}):
                operators = ["==", "!="]
                if isinstance(value, int | float | str) and not isinstance(value, bool):
                    operators += ["<", "<=", ">", ">="]
                if isinstance(value, str):
                    operators.append("prefix")
                for operator in operators:
                    node = Compare(path, operator, value)
                    check_found(backend, rows, Query(node))
                    check_found(backend, rows, Query(Negation(node)))
            for descending in (False, True):
                order = Order(path, descending)
                arranged = arrange(rows, order)
                check_found(backend, rows, Query(order=order))
                for row in arranged[:: 3 - turn]:
                    value = value_at(row, path)
                    after = (value if isinstance(value, bool | int | float | str) else None), row.key
                    check_found(backend, rows, Query(All(()), order, after, 4))
            backend.create_index(path)

    def test_many_values_of_one_query(self, backend: MetadataBackend) -> None:
        rows = [new_row(f"k{n:03}", metadata={"n": n, "x": f"{n}"}) for n in range(50)]
        write(backend, put(*rows))
        path = ("metadata", "n")
        check_found(backend, rows, Query(Compare(path, "in", [*range(20, 5000)])))
        check_found(backend, rows, Query(Compare(("metadata", "x"), "in", [f"{n}" for n in range(3000)])))
        wide = tuple(Compare(path, "==", n) for n in range(30, 2000))
        check_found(backend, rows, Query(Either(wide)))
        check_found(backend, rows, Query(All(tuple(map(Negation, wide)))))
        deep: Node = Compare(path, "<", 7)
        for _ in range(31):
            deep = Negation(All((deep, deep))) if _ < 6 else Negation(deep)
        check_found(backend, rows, Query(deep))

    @pytest.mark.parametrize("indexed", [False, True])
    def test_orders_of_many_rows_in_pages(self, backend: MetadataBackend, indexed: bool) -> None:
        if indexed:
            backend.create_index(("metadata", "loss"))
        values = [*(n % 7 for n in range(300)), *(n / 7 for n in range(300)), True, False, *["x"] * 200]
        values += [float(2**63), 2**63, 2**63 + 5] * 60
        rows = [new_row(f"k{n * 7919 % 5003:05}", metadata={"loss": v}) for n, v in enumerate(values)]
        rows += [new_row(f"n{n:05}") for n in range(300)]
        write(backend, put(*rows))
        for descending in (False, True):
            order = Order(("metadata", "loss"), descending)
            check_found(backend, rows, Query(order=order))
            check_found(backend, rows, Query(parse_where({"metadata.loss": {"<": 3}}), order))
            # Page by page, as a client does.
            found: list[Row] = []
            after = None
            while True:
                query = Query(All(()), order, after, 150)
                page = list(backend.find(query))[:150]
                found += page
                if len(page) < 150:
                    break
                after = page[-1].metadata.get("loss"), page[-1].key
            assert found == arrange(rows, order)

    def test_writers_go_on_during_a_search(self, backend: MetadataBackend) -> None:
        rows = [new_row(f"k{n:05}", metadata={"n": n}) for n in range(2000)]
        write(backend, put(*rows))
        search = backend.find(Query(parse_where({"metadata.n": {">=": 0}}), Order(("metadata", "n"))))
        found = [next(search)]
        write(
            backend,
            put(new_row("new", metadata={"n": 5000}), new_row("old", metadata={"n": -1})),
            lambda t: t.drop_row("k01999"),
        )
        found += search
        kept = [row for row in found if row.key not in ("new", "old", "k01999")]
        assert kept == rows[:-1]

    def test_lists_and_objects_with_what_a_database_may_lack(
        self, backend: MetadataBackend, other: MetadataBackend
    ) -> None:
        values: list[Any] = [["a\\u0000b"], ["ab"], {"z": "a\\u0000b"}, {"a\\u0000b": ["c"]}, [["\\ud800"]]]
        rows = [new_row(f"k{at}", metadata={"x": value}) for at, value in enumerate(values)]
        write(backend, put(*rows))
        # What is asked for with NUL itself, or half a surrogate pair, is in no row.
        absent: list[Any] = [["a\0b"], {"z": "a\0b"}, {"a\0b": ["c"]}, [["\ud800"]], ["ab", "\0"]]
        field = "metadata", "x"
        for value in (*values, *absent):
            for operator, asked in (("==", value), ("!=", value), ("in", [value, "c"])):
                check_found(other, rows, Query(Compare(field, operator, asked)))

    def test_indexes(self, backend: MetadataBackend, other: MetadataBackend) -> None:
        fields: list[Path] = [
            *(("metadata", name) for name in ("loss", "Loss", "a.b", "it's", "é", "$", "%s", "[0]")),
            ("metadata", "a", "b"),
            ("updated",),
        ]
        for path in (*fields, *fields):
            backend.create_index(path)
        assert other.indexes() in ([], sorted(fields))
        row = new_row(metadata={"loss": 1, "a": {"b": 2}, "a.b": 3, "$": "x"})
        write(backend, put(row))
        for path in fields:
            check_found(other, [row], Query(Compare(path, "exists", True), Order(path)))
        for path in (*fields, ("metadata", "absent"), ("metadata", 'q"\0\ud800')):
            other.drop_index(path)
        assert backend.indexes() == []
        assert backend.row("a") == row
