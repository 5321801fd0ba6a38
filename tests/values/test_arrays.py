"""Arrays come back equal, of their type and shape, from any format; damage never ends the process."""

import hashlib
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
import zlib
from itertools import chain
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.effort import effort
from tests.forks import forked, succeeds

from holdall import SerializationError, StoreUnavailableError, UntrustedDataError
from holdall.values import serializers
from holdall.values.arrays import ArraySerializer, NpySerializer, PlainNpySerializer, partition, without_gaps

EACH = [ArraySerializer(), NpySerializer(), PlainNpySerializer()]
NPY = EACH[1:]


def encoded(serializer: Any, value: object) -> bytes:
    # Each piece is copied before the next is asked for.
    return b"".join(bytes(piece) for piece in serializer.encode(value))


def check(one: Any, other: Any) -> None:
    assert type(other) is np.ndarray
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    # Between numbers there may lie anything, which `tobytes` makes anew.
    held = [np.ascontiguousarray(without_gaps(each)).reshape(-1) for each in (one, other)]
    assert not one.nbytes or held[0].view("u1").tobytes() == held[1].view("u1").tobytes()
    assert other.flags.writeable


dtypes = (
    hnp.scalar_dtypes()
    | hnp.unicode_string_dtypes()
    | hnp.byte_string_dtypes()
    | st.sampled_from([np.dtype("?"), np.dtype("f2"), np.dtype("c8"), np.dtype("g"), np.dtype("M8[ns]")])
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
records = hnp.arrays(
    hnp.array_dtypes(subtype_strategy=hnp.scalar_dtypes(), allow_subarrays=True),
    hnp.array_shapes(min_dims=0, max_dims=2, max_side=4),
)


@pytest.mark.parametrize("serializer", EACH, ids=lambda each: each.name)
@settings(deadline=None)
@given(array=arrays)
def test_any_array_comes_back(serializer: Any, array: np.ndarray) -> None:
    check(array, serializer.decode(encoded(serializer, array)))


@pytest.mark.parametrize("serializer", NPY, ids=lambda each: each.name)
@settings(deadline=None)
@given(array=records)
def test_structured_arrays_come_back(serializer: Any, array: np.ndarray) -> None:
    check(array, serializer.decode(encoded(serializer, array)))


def samples() -> dict[str, np.ndarray]:
    line = np.linspace(0, 1, 12)
    aligned = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"]}, align=True)
    return {
        "big-endian": line.astype(">f8"),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 3), "f4"),
        "fortran": np.asfortranarray(line.reshape(3, 4)),
        "strided": np.arange(100).reshape(10, 10)[::3, 1::2],
        "reversed": line[::-1],
        "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        "datetime": np.array(["2026-01-01", "NaT"], "M8[us]"),
        "timedelta": np.array([1, 2], "m8[25s]"),
        "bool": np.array([True, False]),
        "complex": line.astype("c16"),
        "half": line.astype("f2"),
        "nan": np.array([np.nan, -0.0, np.inf]),
        "text": np.array(["ab", "ü😀", ""]),
        "long text": np.array(["a" * 300]),
        "void": np.array([b"abc"], "V5"),
        "aligned": np.zeros(3, aligned),
        "unicode field": np.zeros(2, [("größe😀", "i4")]),
        "many dimensions": np.zeros((1,) * 12),
        "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
        "read-only": np.frombuffer(b"abcd", "u1"),
    }


@pytest.mark.parametrize("name", samples())
def test_the_registry_finds_one_that_gives_it_back(name: str) -> None:
    array = samples()[name]
    serializer = serializers.for_value(array)
    assert isinstance(serializer, (ArraySerializer, NpySerializer))
    check(array, serializer.decode(encoded(serializer, array)))
    for each in NPY:
        back = each.decode(encoded(each, array))
        check(array, back)
        if array.flags.f_contiguous:
            assert back.flags.f_contiguous


def test_other_tools_read_what_is_written(tmp_path: Path) -> None:
    for name, array in samples().items():
        plain = encoded(NPY[1], array)
        np.testing.assert_array_equal(np.load(io.BytesIO(plain)), array) if name != "void" else None
        assert zstd.decompress(encoded(NPY[0], array)) == plain
    for array in (np.arange(1000.0), np.random.default_rng(1).standard_normal((200, 1000))):
        (tmp_path / "a.b2nd").write_bytes(encoded(EACH[0], array))
        np.testing.assert_array_equal(blosc2.open(str(tmp_path / "a.b2nd"), mode="r")[...], array)
        np.testing.assert_array_equal(np.load(io.BytesIO(zstd.decompress(encoded(NPY[0], array)))), array)


def test_what_other_tools_write_is_read() -> None:
    array = np.arange(60_000).reshape(300, 200)
    # The third version of the format, and strings without a character.
    for each in (array, np.zeros(2, [("größe😀", "i4")]), np.ndarray(3, "S0")):
        held = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            np.save(held, each)
        for serializer in NPY:
            check(each, serializer.decode(held.getvalue()))
        check(each, NPY[0].decode(zstd.compress(held.getvalue())))
    check(array, EACH[0].decode(blosc2.asarray(array).to_cframe()))


@pytest.mark.parametrize("serializer", NPY, ids=lambda each: each.name)
def test_masked_arrays_keep_their_mask_and_what_is_under_it(serializer: Any) -> None:
    structured = np.zeros(2, [("a", "i4"), ("b", "f8")])
    for array in (
        np.ma.MaskedArray([1, 2, 3], mask=[0, 1, 0], fill_value=7),
        np.ma.MaskedArray([1.5, 2.5]),
        np.ma.MaskedArray([1, 2], mask=[1, 0], hard_mask=True),
        np.ma.MaskedArray([[1, 2]], mask=[[True, True]]),
        np.ma.MaskedArray(structured, mask=[(0, 1), (1, 0)]),
        np.ma.MaskedArray(np.array(3), mask=True),
        np.ma.MaskedArray(["abc", "c"], mask=[1, 0]),
        np.ma.MaskedArray(np.zeros((0, 2)), mask=np.zeros((0, 2), bool)),
    ):
        assert serializers.for_value(array).name == "npy.zst"
        back = serializer.decode(encoded(serializer, array))
        assert type(back) is np.ma.MaskedArray
        check(np.asarray(array.data), np.asarray(back.data))
        assert np.array_equal(np.ma.getmaskarray(back), np.ma.getmaskarray(array))
        assert (np.ma.getmask(back) is np.ma.nomask) == (np.ma.getmask(array) is np.ma.nomask)
        assert back.fill_value == array.fill_value
        assert back.hardmask == array.hardmask


def test_what_blosc2_would_change_goes_elsewhere() -> None:
    noise = np.random.default_rng(1).standard_normal(100_000)
    for array in (
        noise,
        np.zeros(3, [("a", "i4")]),
        np.zeros(3, "V4"),
        np.zeros(3, "U100"),
        np.zeros((1,) * 9),
    ):
        assert serializers.for_value(array).name == "npy.zst"
    assert serializers.for_value(np.zeros(100_000)).name == "b2nd"
    for array in (np.zeros(3, [("a", "i4")]), np.ma.MaskedArray([1])):
        with pytest.raises(SerializationError, match="b2nd"):
            ArraySerializer().encode(array)


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array(["a"], dtype=np.dtypes.StringDType()),
        np.zeros(2, [("a", "O")]),
        np.array([1], np.dtype("i4", metadata={"a": 1})),
        np.rec.array([(1, 2)]),
        np.ma.MaskedArray([object()]),
        [1, 2],
        np.float64(1),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
@pytest.mark.parametrize("serializer", EACH, ids=lambda each: each.name)
def test_objects_and_subclasses_are_refused_by_name(serializer: Any, value: object) -> None:
    with pytest.raises(SerializationError, match="format"):
        list(serializer.encode(value))


def test_pickled_objects_are_never_read() -> None:
    held = io.BytesIO()
    np.save(held, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for serializer in NPY:
        with pytest.raises(UntrustedDataError, match="unpickled"):
            serializer.decode(held.getvalue())


@settings(deadline=None)
@given(data=st.binary() | st.binary().map(lambda rest: b"\x93NUMPY\x01\x00" + rest))
@pytest.mark.parametrize("serializer", EACH, ids=lambda each: each.name)
def test_bytes_that_are_no_array_give_a_serialization_error(serializer: Any, data: bytes) -> None:
    with pytest.raises(SerializationError, match=r"array"):
        serializer.decode(data)


header = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(
            ["<f8", "|b1", "<M8[ns]", "|V0", "|S0", "|O", "f8,f8", "a3", "<U2", [], [("a", "<i4")]]
        )
        | st.text(max_size=6)
        | st.lists(st.tuples(st.text(max_size=2), st.sampled_from(["<i4", "|O"])), max_size=3),
        "fortran_order": st.booleans() | st.none(),
        "shape": st.lists(st.integers(-1, 4) | st.just(10**12) | st.booleans(), max_size=3).map(tuple)
        | st.none(),
    }
)


@settings(max_examples=effort(300, 60), deadline=None)
@given(header.map(repr) | st.text(max_size=30) | st.just("(" * 3000), st.binary(max_size=40))
def test_any_header_gives_an_array_or_a_typed_error(text: str, rest: bytes) -> None:
    head = text.encode("latin1", "replace")
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + rest
    for form in (data, zstd.compress(data)):
        try:
            assert isinstance(NPY[0].decode(form), np.ndarray)
        except (SerializationError, UntrustedDataError):
            pass


@pytest.mark.parametrize("serializer", EACH, ids=lambda each: each.name)
@pytest.mark.parametrize("kind", ["line", "noise"])
def test_a_changed_or_missing_byte_is_never_more_than_a_serialization_error(
    serializer: Any, kind: str
) -> None:
    array = np.arange(5000.0) if kind == "line" else np.random.default_rng(2).standard_normal(5000)
    data = encoded(serializer, array)
    dice = random.Random(3)
    for _ in range(300):
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        try:
            back = serializer.decode(changed)
        except SerializationError:
            continue
        # The npy format has no checksum; the others see each change.
        assert serializer.name == "npy" or np.array_equal(back, array)
    for _ in range(50):
        with pytest.raises(SerializationError):
            serializer.decode(data[: dice.randrange(len(data))])
    if serializer.name != "b2nd":
        with pytest.raises(SerializationError):
            serializer.decode(data + b"\0")


def test_damaged_frames_of_others_do_not_end_the_process() -> None:
    code = """
import random, sys
import blosc2, numpy as np
from holdall import SerializationError
from holdall.values.arrays import ArraySerializer
data = blosc2.asarray(np.linspace(0, 1, 3000).reshape(30, 100)).to_cframe()
dice = random.Random(5)
for _ in range(400):
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 3])):
        changed[dice.randrange(len(data))] = dice.randrange(256)
    try:
        ArraySerializer().decode(changed[: dice.choice([len(data), len(data), dice.randrange(len(data))])])
    except SerializationError:
        pass
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_damaged_shape_of_a_frame_of_others_takes_no_memory() -> None:
    data = blosc2.asarray(np.linspace(0, 1, 3000).reshape(30, 100)).to_cframe()
    shape = data.index(b"\x92\xd3" + (30).to_bytes(8, "big"))
    tracemalloc.start()
    try:
        # Each byte of the two lengths but the last, which says something else that is possible.
        for at in (*range(shape + 2, shape + 10), *range(shape + 11, shape + 18)):
            changed = bytearray(data)
            changed[at] ^= 0x7F
            with pytest.raises(SerializationError, match="b2nd"):
                EACH[0].decode(changed)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "made",
    [
        lambda: blosc2.asarray(np.arange(77).reshape(7, 11), chunks=(3, 5), blocks=(2, 2)),
        lambda: blosc2.asarray(np.zeros((0, 3))),
        lambda: blosc2.full((500, 33), 3.5, dtype="f4"),
        lambda: blosc2.linspace(0, 1, 5000, shape=(50, 100)),
    ],
    ids=["odd", "empty", "full", "line"],
)
def test_frames_of_others_are_read_whatever_their_chunks(made: Any) -> None:
    held = made()
    check(held[()], EACH[0].decode(held.to_cframe()))


def test_a_few_bytes_do_not_claim_endless_memory() -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,)}\n"
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    for form in (data, zstd.compress(data)):
        with pytest.raises(SerializationError):
            NPY[0].decode(form)
    held = io.BytesIO()
    np.save(held, np.zeros(3))
    more = zstd.compress(held.getvalue() + bytes(200 << 20))
    header = zstd.compress(b"\x93NUMPY\x02\x00" + (200 << 20).to_bytes(4, "little") + b" " * (200 << 20))
    tracemalloc.start()
    try:
        for bomb in (more, header):
            with pytest.raises(SerializationError):
                NPY[0].decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


PEAK = """
import sys
import numpy as np
from holdall.values import serializers
from holdall.values.registry import joined
kind, name = sys.argv[1:]
count = (64 << 20) // 8
noise = np.random.default_rng(0).standard_normal
line = lambda n: np.arange(n, dtype="f8") // 3
make = {
    "line": line,
    "noise": noise,
    "fortran": lambda n: np.asfortranarray(line(n).reshape(256, -1)),
    "strided": lambda n: line(2 * n)[::2],
    # Noise but for where it is looked at.
    "misjudged": lambda n: np.where(np.arange(n) % (n // 2 - 1024) < 4096, 0, noise(n)),
}[kind]
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) << 10
small = make(1 << 18)
serializer = serializers.for_value(small) if name == "chosen" else serializers.named(name)
for piece in serializer.encode(small): pass
assert name != "chosen" or serializer.name == ("npy.zst" if kind == "noise" else "b2nd"), serializer.name
array = make(count)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # what it took to make the array is no peak any more: proc(5)
before = peak()
size = 0
for piece in serializer.encode(array):
    size += len(piece)
print(peak() - before, array.nbytes)
"""


@pytest.mark.parametrize(
    ("kind", "name", "most"),
    [
        ("line", "chosen", 0.2),
        ("noise", "chosen", 0.1),
        ("fortran", "chosen", 0.2),
        ("strided", "chosen", 0.2),
        ("misjudged", "chosen", 0.2),
        ("line", "npy.zst", 0.2),
        ("noise", "npy", 0.1),
    ],
)
def test_an_array_is_encoded_with_at_most_one_copy(kind: str, name: str, most: float) -> None:
    # In a process of its own, of which the memory that C libraries take is counted too.
    result = subprocess.run(
        [sys.executable, "-c", PEAK, kind, name], capture_output=True, check=True, text=True
    )
    extra, size = map(int, result.stdout.split())
    assert extra <= most * size


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = np.asarray(np.arange(1 << 20).reshape(256, -1) // 3, order=order)
    assert array.nbytes == 8 << 20
    check(ArraySerializer().decode(encoded(ArraySerializer(), array)), array)
    pieces = iter(ArraySerializer().encode(array))
    next(pieces)
    # Also not of one that nobody reads to the end.
    assert not list(tmp_path.iterdir())


def test_a_system_without_a_folder_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_folder() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", no_folder)
    with pytest.raises(StoreUnavailableError, match="TMPDIR"):
        encoded(ArraySerializer(), np.zeros(1 << 20))


def test_a_full_disk_is_told_before_any_piece_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = np.where(
        np.arange(1 << 20) % ((1 << 19) - 1024) < 4096, 0, np.random.default_rng(0).random(1 << 20)
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(StoreUnavailableError, match="temporary file"):
            next(iter(ArraySerializer().encode(array)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["c", "f", "strided"])
def test_npy_gives_the_memory_itself(kind: str) -> None:
    array = {
        "c": np.zeros((1024, 1024)),
        "f": np.zeros((1024, 1024), order="F"),
        "strided": np.zeros((2048, 1024))[::2],
    }[kind]
    assert array.nbytes == 8 << 20
    tracemalloc.start()
    try:
        size = zlib.crc32(b"")
        for piece in chain(NPY[1].encode(array)):
            size += len(piece)
        assert size > array.nbytes
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


GOLDEN: list[tuple[Any, str]] = [
    (np.arange(1 << 20, dtype="f8"), "7877ce5316843f8a"),
    (np.arange(3_000_000, dtype="f4").reshape(1000, 3, 1000), "131b975c083b2e03"),
    (np.asfortranarray(np.arange(1 << 20, dtype="<i8").reshape(16, -1)), "3a9179becb9422b0"),
    (np.arange(3_000_000)[::-2], "5aa5604162457d95"),
    (np.arange(24).reshape(2, 3, 4).astype(">i4"), "fd4a945196f7c29a"),
    (np.zeros((0, 3_000_000_000), "i2"), "db8c8ba19a1c5248"),
    (np.array(3.0), "4bfa85a4b91f456e"),
    (np.arange(1000).astype("M8[s]"), "b499974db6df052b"),
    (np.full((7, 100), "holdall"), "35f7ad5d0048b899"),
    (np.ones((2, 1, 3, 1, 5, 1, 7, 1), "?"), "2158f87dea858a01"),
]


@pytest.mark.parametrize(
    "cpu",
    [
        {},
        {"l1_data_cache_size": 32 << 10, "l2_cache_size": 2 << 20, "l3_cache_size": 480 << 20, "count": 96},
        {"l1_data_cache_size": 32 << 10, "l2_cache_size": 256 << 10, "l3_cache_size": 1 << 20, "count": 2},
    ],
    ids=["unknown", "server", "laptop"],
)
def test_an_array_has_the_same_bytes_on_every_machine(cpu: dict[str, int], monkeypatch: Any) -> None:
    monkeypatch.setattr(blosc2, "cpu_info", cpu)
    for name in [each for each in os.environ if each.startswith("BLOSC_")]:
        monkeypatch.delenv(name)  # the settings of C-Blosc2, which override all others
    before = blosc2.set_nthreads(cpu.get("count", 1))
    try:
        made = [hashlib.sha256(encoded(EACH[0], array)).hexdigest()[:16] for array, _ in GOLDEN]
    finally:
        blosc2.set_nthreads(before)
    # Written by Blosc2 4.5.1 and 4.14.1, which compress alike.
    assert made == [digest for _, digest in GOLDEN]


@pytest.mark.parametrize(
    ("shape", "item"),
    [((10**9,), 8), ((10**5, 10**5), 1), ((3, 10**9, 2), 4), ((0, 3 * 10**9), 2), ((5,) * 8, 255), ((), 16)],
)
def test_the_pieces_of_an_array_follow_from_its_shape_alone(shape: tuple[int, ...], item: int) -> None:
    chunks = partition(shape, (4 << 20) // item)
    assert len(chunks) == len(shape)
    assert np.prod(chunks, dtype=object) * item <= 4 << 20
    assert all(1 <= chunk <= max(side, 1) for chunk, side in zip(chunks, shape, strict=True))
    blocks = partition(chunks, (256 << 10) // item)
    assert all(block <= chunk for block, chunk in zip(blocks, chunks, strict=True))


def test_what_no_format_of_arrays_holds_is_named_with_its_place() -> None:
    with pytest.raises(SerializationError, match=r"a dict with a numpy.ndarray at \['labels'\]; register"):
        serializers.for_value({"labels": np.array(["cat"]), "epoch": 7})
    with pytest.raises(SerializationError, match=r"at \[0\]\['x'\]"):
        serializers.for_value([{"x": np.zeros(1)}])
    deep = [[{"x": [np.zeros(1)]}] for _ in range(2000)]
    with pytest.raises(SerializationError, match=r"numpy.ndarray \(at \[0\]\[0\]\['x'\]\[0\]\); convert"):
        encoded(serializers.named("json"), deep)
    assert serializers.for_value({"x": np.zeros(3)}).name == "safetensors"


@pytest.mark.parametrize("name", ["b2nd", "npy", "npy.zst"])
@pytest.mark.parametrize("kind", ["g", "G", ">g", [("a", "i1"), ("b", "g", 2)], "aligned"])
def test_what_lies_between_the_numbers_is_not_written(name: str, kind: Any) -> None:
    dtype = np.dtype("i1,f8", align=True) if kind == "aligned" else np.dtype(kind)
    serializer: Any = serializers.named(name)
    if name == "b2nd" and dtype.names:
        return
    made = []
    for filling in (0, 0xAA):
        array = np.frombuffer(bytearray([filling]) * (6 * dtype.itemsize), dtype).reshape(2, 3)
        for field in dtype.names or ():
            array[field] = 3
        if not dtype.names:
            array[...] = 3
        made.append(encoded(serializer, array))
        back = serializer.decode(made[-1])
        assert back.dtype == dtype
        assert (back == array).all()
    assert made[0] == made[1]


def test_an_array_is_decoded_without_a_second_one() -> None:
    array = np.arange(4 << 20, dtype="f8") // 3
    data = encoded(EACH[0], array)
    tracemalloc.start()
    try:
        back = EACH[0].decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1.4 * array.nbytes
    finally:
        tracemalloc.stop()
    check(back, array)


def test_an_array_that_blosc2_couldnt_read_isnt_written() -> None:
    code = """
import numpy as np
from holdall import SerializationError
from holdall.values.arrays import ArraySerializer
array = np.cumsum(np.ones(600_000))
try:
    data = b"".join(ArraySerializer().encode(array))
except SerializationError as error:
    assert "unset it" in str(error)
else:
    assert (ArraySerializer().decode(data) == array).all()
"""
    run = [sys.executable, "-c", code]
    subprocess.run(run, env=os.environ | {"BLOSC_BLOCKSIZE": "65536"}, check=True)


def test_a_child_of_a_fork_reads_arrays() -> None:
    array = np.cumsum(np.ones(1_000_000))
    data = b"".join(ArraySerializer().encode(array))

    def read() -> None:
        assert (ArraySerializer().decode(data) == array).all()

    read()
    succeeds(forked(read))
