"""Several stores as one."""

import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdall import (
    ABSENT,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    ExpiringStore,
    FanoutStore,
    FilesystemStore,
    Info,
    InvalidArgumentError,
    InvalidKeyError,
    MemoryStore,
    NotifyingStore,
    ReadOnlyStore,
    SqliteStore,
    Store,
    StoreUnavailableError,
    TracedStore,
    UnsupportedOperation,
)
from holdall.layers.layer import Transparent, place_of
from holdall.layers.routed import RoutedStore
from holdall.store import Attributes, Body, Expect, LeftOut
from holdall.testing import Counting, Flaky, Limited, StoreSuite


class TestRoutedOverMemory(StoreSuite):
    reduced = True
    persistent = False

    def make(self, place: Path) -> Store:
        small, many = MemoryStore(name=f"{place}/small"), MemoryStore(name=f"{place}/many")
        small["a/not-ours"] = many["z"] = many["not-ours"] = b"another's"
        routes = {"many/": many, "**/*.txt": small, "d/": small, "[e-o]/**": many, "é": small}
        return RoutedStore({**routes, "": MemoryStore(name=f"{place}/rest")})


def test_the_first_route_counts() -> None:
    exact, folder, glob, rest = stores = [MemoryStore() for _ in range(4)]
    store = RoutedStore({"logs/app": exact, "*/*.csv": glob, "logs/": folder, "": rest})
    for key in ("logs/app/1", "logs/application", "logs/a.csv", "logs/b", "x/y.csv", "x/y/z.csv", "logs"):
        store[key] = key.encode()
    assert [list(each) for each in stores] == [
        ["logs/app/1", "logs/application"],
        ["logs/b"],
        ["logs/a.csv", "x/y.csv"],
        ["logs", "x/y/z.csv"],
    ]
    assert list(store) == sorted(store) == [info.key for info in store.list()]
    assert all(store[key] == key.encode() for key in store)


def test_many_routes() -> None:
    stores = [MemoryStore() for _ in range(50)]
    routes = {f"tenant-{number:03d}/": store for number, store in enumerate(stores)}
    store = RoutedStore(routes)
    store.put_many({f"tenant-{number:03d}/a": b"%d" % number for number in range(50)})
    assert [each[f"tenant-{number:03d}/a"] for number, each in enumerate(stores)] == [
        b"%d" % number for number in range(50)
    ]
    assert len(store) == 50


def test_a_key_without_a_route_is_refused_before_anything_is_touched() -> None:
    below = Counting(MemoryStore())
    store = RoutedStore({"logs/": below, "*.txt": below})
    store["logs/a"] = b"1"
    before = dict(below.calls)

    def body() -> Iterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    for call in (
        lambda: store.put("other", body()),
        lambda: store.get("other"),
        lambda: store.delete("other"),
        lambda: store.put_many({"logs/b": b"1", "other": b"2"}),
        lambda: store.get_many(["logs/a", "other"]),
        lambda: store.delete_many(["logs/a", "other"]),
        lambda: store.copy("logs/a", "other"),
        lambda: store.move("logs/a", "other"),
        lambda: store.open("other", "wb"),
        lambda: (store / "deep").put("a", b"1"),
        lambda: (store / "deep").put_many({"a": b"1"}),
    ):
        with pytest.raises(
            InvalidKeyError, match=r"no route takes this key; the routes are 'logs/', '\*\.txt'"
        ):
            call()
    assert "other" not in store
    assert below.calls == before
    store["a.txt"] = b"2"
    assert list(store) == ["a.txt", "logs/a"]


def test_it_shows_and_touches_only_what_is_routed() -> None:
    logs, rest = MemoryStore(), MemoryStore()
    logs["a"] = logs["logs/a"] = logs["z/z"] = b"l"
    rest["b"] = rest["logs/b"] = rest["c/d"] = b"r"
    store = RoutedStore({"logs/": logs, "": rest})
    assert list(store) == ["b", "c/d", "logs/a"]
    assert [child if isinstance(child, str) else child.key for child in store.children()] == [
        "b",
        "c/",
        "logs/",
    ]
    assert [info.key for info in store.children("logs/") if isinstance(info, Info)] == ["logs/a"]
    assert store.get("a") is None
    store.clear()
    assert (list(logs), list(rest)) == (["a", "z/z"], ["logs/b"])


def test_a_folder_of_foreign_keys_is_no_child() -> None:
    text, rest = MemoryStore(), MemoryStore({"text/a": b""})
    text["in/a.txt"] = text["out/b.csv"] = b""
    rest["text/a.txt"] = b""
    store = RoutedStore({"**/*.txt": text, "": rest})
    assert list(store.children()) == ["in/", "text/"]
    assert [child.key for child in store.children("text/") if isinstance(child, Info)] == ["text/a"]


def test_a_listing_asks_only_stores_that_can_hold_the_prefix() -> None:
    logs, text, rest = Counting(MemoryStore()), Counting(MemoryStore()), Counting(MemoryStore())
    store = RoutedStore({"logs/": logs, "docs/*.txt": text, "": rest})
    store.put_many({"logs/a": b"", "docs/a.txt": b"", "docs/b": b"", "x": b""})

    def asked(prefix: str) -> list[int]:
        stores = (logs, text, rest)
        before = [each.calls["scan"] for each in stores]
        assert list(store.iterate_keys(prefix)) == [info.key for info in store.list(prefix)]
        return [each.calls["scan"] - old for each, old in zip(stores, before, strict=True)]

    assert asked("logs/a") == [2, 0, 0]
    assert asked("logs/") == [2, 0, 0]
    assert asked("docs/") == [0, 2, 2]
    assert asked("docs/x") == [0, 2, 2]
    assert asked("doc") == [0, 2, 2]
    assert asked("x") == [0, 0, 2]
    assert asked("l") == [2, 0, 2]


def test_a_listing_opens_stores_one_after_the_other() -> None:
    first, second = Counting(MemoryStore({"a/1": b""})), Counting(MemoryStore({"b/1": b""}))
    store = RoutedStore({"b/": second, "a/": first})
    listing = store.iterate_keys()
    assert next(listing) == "a/1"
    assert (first.calls["scan"], second.calls["scan"]) == (1, 0)
    assert list(listing) == ["b/1"]
    assert store
    assert second.calls["scan"] == 1


def test_listings_of_random_routes_are_those_of_one_store() -> None:
    rng = random.Random(3)
    texts = ["", "a", "a/", "a/b", "b", "b/*", "*.x", "**/c", "a*", "ab/", "c/[ab]", "a/b/c"]
    alphabet = ["a", "b", "c", "ab", "a.x", "b.x"]
    for _ in range(300):
        stores = [MemoryStore() for _ in range(3)]
        try:
            store = RoutedStore({text: rng.choice(stores) for text in rng.sample(texts, rng.randrange(1, 6))})
        except InvalidArgumentError:
            continue
        model = MemoryStore()
        for _ in range(30):
            key = "/".join(rng.choices(alphabet, k=rng.randrange(1, 4)))
            rng.choice(stores).setdefault(key, b"stray")
            try:
                store[key] = b"ours"
            except InvalidKeyError:
                continue
            model[key] = b"ours"
        # Strays that are in the right store are ours.
        for each in stores:
            for key in each:
                try:
                    if key in store:
                        model.setdefault(key, store[key])
                except InvalidKeyError:
                    pass
        for prefix in ("", "a", "a/", "ab", "b/", "c/a", "a/b/", "zz"):
            assert list(store.iterate_keys(prefix)) == list(model.iterate_keys(prefix))
            assert [info.key for info in store.list(prefix)] == list(model.iterate_keys(prefix))
            assert [c if isinstance(c, str) else c.key for c in store.children(prefix)] == [
                c if isinstance(c, str) else c.key for c in model.children(prefix)
            ]
        assert store.get_many(model) == dict(model)
        store.clear()
        assert not list(store)


def test_it_can_what_all_can(tmp_path: Path) -> None:
    memory, files = MemoryStore(), FilesystemStore(tmp_path)
    store = RoutedStore({"files/": files, "": memory})
    assert store.can == memory.can & files.can & ~Can.COPY
    assert not store.inline
    assert RoutedStore({"a": memory, "b": memory}).can == memory.can
    with pytest.raises(UnsupportedOperation):
        store.put("a", b"x", ttl=60)


def test_a_copy_inside_a_store_is_its_own_and_across_stores_keeps_what_goes_with_the_blob(
    tmp_path: Path,
) -> None:
    memory = MemoryStore()
    store = RoutedStore({"a/": memory, "b/": MemoryStore(), "c/": FilesystemStore(tmp_path)})
    memory.put("a/1", b"x", ttl=60, content_type="text/plain")
    memory.put("a/2", b"y")
    inside, across = store.copy("a/1", "a/3"), store.copy("a/1", "b/1")
    assert inside.expires == across.expires == store.info("a/1").expires is not None
    assert across.content_type == "text/plain"
    assert store.move("b/1", "a/4").expires == inside.expires
    assert list(store) == ["a/1", "a/2", "a/3", "a/4"]
    for transfer in (store.copy, store.move):
        with pytest.raises(UnsupportedOperation, match="can't keep the ttl"):
            transfer("a/1", "c/1")
    memory.put("a/5", b"x", content_type="text/plain")
    with pytest.raises(UnsupportedOperation, match="content_type"):
        store.copy("a/5", "c/1")
    assert "c/1" not in store
    store.move("a/2", "c/2")
    assert (store["c/2"], list(store)) == (b"y", ["a/1", "a/3", "a/4", "a/5", "c/2"])


def test_many_are_asked_store_by_store_and_come_in_the_order_asked_for() -> None:
    left, right = MemoryStore(), MemoryStore()
    store = RoutedStore({"l": left, "r": right})
    keys = ["r1", "l1", "r2", "l2"]
    infos = store.put_many({key: key.encode() for key in keys})
    assert list(infos) == keys
    assert all(infos[key] == store.info(key) for key in keys)
    assert list(store.get_many(["l2", "r1", "l9", "l1"])) == ["l2", "r1", "l1"]
    assert store.delete_many(["l1", "r9", "r2"]) == 2
    assert (list(left), list(right)) == (["l2"], ["r1"])


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ({}, "must not be empty"),
        ([("a", MemoryStore())], "mapping"),
        ({1: MemoryStore()}, "a route must be a str"),
        ({"a": b"x"}, "must lead to a store"),
        ({"/a": MemoryStore()}, "'/a' takes no key"),
        ({"a//": MemoryStore()}, "takes no key"),
        ({"../*": MemoryStore()}, "takes no key"),
        ({"x" * 1025: MemoryStore()}, "takes no key"),
        ({"[z-a]": MemoryStore()}, "bad set"),
        ({"": MemoryStore(), "logs/": MemoryStore()}, "'logs/' takes no key, since '' comes before it"),
        ({"logs/": MemoryStore(), "logs/*.txt": MemoryStore()}, "put it first"),
    ],
)
def test_what_are_no_routes(routes: object, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says.replace("*", r"\*")):
        RoutedStore(routes)  # type: ignore[arg-type]


def test_awkward_prefixes_are_routes() -> None:
    store = RoutedStore({"a/.": MemoryStore(), "é" * 512: MemoryStore(), "x" * 1024: MemoryStore()})
    store["a/.git"] = store["é" * 512] = store["x" * 1024] = b"1"
    assert list(store) == ["a/.git", "x" * 1024, "é" * 512]


def test_a_pickle_keeps_the_routes_and_shares_what_was_shared(tmp_path: Path) -> None:
    below = SqliteStore(tmp_path / "x.sqlite")
    with below, RoutedStore({"a/": below, "*.txt": below, "": MemoryStore(name="routed")}) as store:
        store["a/1"] = b"1"
        again = pickle.loads(pickle.dumps(store))
        assert repr(again) == repr(store)
        assert len(again._below) == 2
        assert again["a/1"] == b"1"
        again.close()
        assert all(each._closed for each in again._below)
        assert store["a/1"] == b"1"


def test_errors_name_the_key() -> None:
    store = RoutedStore({"a": MemoryStore(), "": MemoryStore()})
    with pytest.raises(BlobNotFoundError) as caught:
        _ = store["absent"]
    assert caught.value.key == "absent"


def test_a_layer_above_reads_ranges_only_where_all_can() -> None:
    limited = Limited(MemoryStore({"b": b"0123"}), ~Can.RANGE)
    store = RoutedStore({"a": MemoryStore({"a": b"0123"}), "": limited})
    assert Can.RANGE not in store.can
    assert store.get_range("a", 1, 3) == store.get_range("b", 1, 3) == b"12"


def test_every_acknowledged_change_holds_over_stores_that_fail() -> None:
    rng = random.Random(11)
    stores = [MemoryStore() for _ in range(3)]
    left, right, rest = [Flaky(each, rate=0.1, seed=seed) for seed, each in enumerate(stores)]
    store = RoutedStore({"l/": left, "*.r": right, "": rest})
    keys = ["l/0", "l/1", "l/2", "0.r", "1.r", "x/0", "x/1", "x/2"]
    calm = RoutedStore({"l/": stores[0], "*.r": stores[1], "": stores[2]})
    possible: dict[str, set[bytes | None]] = {key: {None} for key in keys}
    failed = 0
    for number in range(10_000):
        key, target = rng.sample(keys, 2)
        data = b"%d" % number
        touched: dict[str, bytes | None] = {}
        action = rng.choice(
            ("put", "put many", "delete", "delete many", "copy", "move", "get", "list", "pop")
        )
        held = {name: calm.get(name) for name in keys}
        assert all(held[name] in possible[name] for name in keys), (number, action)
        possible = {name: {data} for name, data in held.items()}
        try:
            if action == "put":
                touched = {key: data}
                store[key] = data
            elif action == "put many":
                touched = {key: data, target: data}
                store.put_many(dict.fromkeys([key, target], data))
            elif action == "delete":
                touched = {key: None}
                assert store.delete(key) is (held[key] is not None)
            elif action == "delete many":
                touched = {key: None, target: None}
                assert store.delete_many([key, target]) == sum(held[each] is not None for each in touched)
            elif action == "copy":
                touched = {target: held[key]}
                assert store.copy(key, target).size == len(held[key] or b"")
            elif action == "move":
                touched = {target: held[key], key: None}
                store.move(key, target)
            elif action == "get":
                assert store.get(key) == held[key]
                assert store.get_many(keys) == {name: data for name, data in held.items() if data is not None}
            elif action == "pop":
                touched = {key: None}
                assert store.pop(key, None) == held[key]
            else:
                assert list(store) == sorted(name for name in keys if held[name] is not None)
        except StoreUnavailableError:
            failed += 1
            for name, value in touched.items():
                possible[name].add(value)
        except BlobNotFoundError:
            assert held[key] is None
            assert action in ("copy", "move")
        else:
            for name, value in touched.items():
                possible[name] = {value}
    assert failed > 500


class Dying(Transparent):
    """A store whose deletes never happen: the process was killed before."""

    def _delete(self, key: str, expect: Expect) -> bool:
        raise StoreUnavailableError("killed")


def test_a_move_that_is_killed_between_copy_and_delete_leaves_both() -> None:
    source, target = MemoryStore({"a/x": b"1"}), MemoryStore()
    with pytest.raises(StoreUnavailableError):
        RoutedStore({"a/": Dying(source), "": target}).move("a/x", "x")
    assert (source["a/x"], target["x"]) == (b"1", b"1")
    RoutedStore({"a/": source, "": target}).move("a/x", "x")
    assert (list(source), target["x"]) == ([], b"1")


@pytest.mark.parametrize("expiring", ["source", "target", "both"])
def test_a_move_where_a_layer_counts_the_age(tmp_path: Path, expiring: str) -> None:
    one: Store = FilesystemStore(tmp_path / "one")
    other: Store = FilesystemStore(tmp_path / "other")
    if expiring in ("source", "both"):
        one = ExpiringStore(one, 3600)
    if expiring in ("target", "both"):
        other = ExpiringStore(other, 7200)
    store = RoutedStore({"keep/": other, "": one})
    store["x"] = b"1"
    assert store.copy("x", "keep/y").size == 1
    moved = store.move("x", "keep/x")
    assert (moved.expires is not None) == (expiring != "source")
    assert list(store) == ["keep/x", "keep/y"]
    assert store.move("keep/x", "x", expect=ABSENT).size == 1


def test_a_time_to_live_that_the_other_store_cant_keep_is_refused(tmp_path: Path) -> None:
    sessions, files = MemoryStore(), FilesystemStore(tmp_path)
    sessions.put("x", b"1", ttl=3600)
    store = RoutedStore({"keep/": files, "": sessions})
    for call in (store.copy, store.move):
        with pytest.raises(UnsupportedOperation, match="ttl"):
            call("x", "keep/x")
    assert (list(files), sessions["x"]) == ([], b"1")
    sessions.put("y", b"2")
    assert store.move("y", "keep/y").size == 1


def test_a_move_to_another_store_keeps_its_conditions() -> None:
    one, other = MemoryStore({"a/x": b"1"}), MemoryStore({"x": b"old"})
    store = RoutedStore({"a/": one, "": other})
    with pytest.raises(BlobExistsError):
        store.move("a/x", "x", expect=ABSENT)
    with pytest.raises(ConcurrencyError):
        store.move("a/x", "x", expect="another")
    assert (one["a/x"], other["x"]) == (b"1", b"old")
    for source in ("a/none", "none"):
        for target in ("x", "a/x", source):
            with pytest.raises(BlobNotFoundError):
                store.move(source, target)
    assert store.move("a/x", "a/x").size == 1
    with pytest.raises(BlobExistsError):
        store.move("a/x", "a/x", expect=ABSENT)
    assert store.move("a/x", "x", expect=store.info("x").etag).size == 1
    assert (list(one), other["x"]) == ([], b"1")


def test_a_move_takes_what_was_written_meanwhile() -> None:
    one, other = MemoryStore({"a/x": b"1"}), MemoryStore()

    class Late(Transparent):
        def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
            info = super()._write(key, body, expect, attributes)
            if one["a/x"] == b"1":
                one["a/x"] = b"2"
            return info

    # A third store that can't compare says nothing of these two.
    class Blind(Transparent):
        can = MemoryStore.can & ~(Can.SWAP | Can.CREATE)  # pyright: ignore[reportAssignmentType]

    store = RoutedStore({"a/": one, "b/": Blind(MemoryStore()), "": Late(other)})
    assert store.move("a/x", "x").size == 1
    assert (list(one), other["x"]) == ([], b"2")


def test_a_move_takes_from_no_store_that_deletes_blindly() -> None:
    exact = Can.SWAP | Can.CONDITIONAL_DELETE
    blind = Limited(MemoryStore({"a/x": b"1"}), ~Can.CONDITIONAL_DELETE)
    store = RoutedStore({"a/": blind, "": Limited(MemoryStore(), ~exact)})
    assert not store.can & exact
    for target in ("b", "a/y"):
        with pytest.raises(UnsupportedOperation, match="another writer"):
            store.move("a/x", target)
    assert (list(store), blind["a/x"]) == (["a/x"], b"1")


def test_what_a_store_leaves_out_is_handed_on_by_its_route() -> None:
    class WithLinks(Transparent):
        def _survey(self, prefix: str, after: str) -> Iterator[Info | LeftOut]:
            found: list[Info | LeftOut] = [
                LeftOut(f"{folder}link", "symbolic link") for folder in ("a/", "b/", "")
            ]
            found = [each for each in found if place_of(each).startswith(prefix) and place_of(each) > after]
            return iter(sorted([*found, *self._store._scan(prefix, after)], key=place_of))

    store = RoutedStore({"a/": WithLinks(MemoryStore({"a/x": b""})), "": WithLinks(MemoryStore())})
    assert [each.path for each in store.left_out()] == ["a/link", "b/link", "link"]
    assert [each.path for each in store.left_out("a/")] == ["a/link"]
    for layer in (ReadOnlyStore, NotifyingStore, TracedStore, lambda each: ExpiringStore(each, 60)):
        assert [each.path for each in layer(store).left_out()] == ["a/link", "b/link", "link"]
    replicas = FanoutStore([WithLinks(MemoryStore({"x": b"1"})), MemoryStore({"link": b"1"})])
    assert [each.path for each in replicas.left_out()] == ["a/link", "b/link"]
