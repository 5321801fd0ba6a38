"""State dicts come back, and are files that the safetensors library reads, and the other way round."""

import json
import random
import struct
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.effort import effort

from holdall import InvalidArgumentError, MissingDependencyError, SerializationError
from holdall.values import serializers
from holdall.values.tensors import SafetensorsSerializer

serializer = SafetensorsSerializer()
TYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def encoded(value: Any) -> bytes:
    return b"".join(serializer.encode(value))


def check(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        back = other[name]
        assert (back.dtype, back.shape) == (array.dtype.newbyteorder("="), array.shape)
        assert back.tobytes() == array.astype(back.dtype).tobytes()
        assert back.flags.writeable


arrays = st.sampled_from(TYPES).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
names = st.text(st.characters(codec="utf-8")).filter("__metadata__".__ne__)


@settings(deadline=None)
@given(st.dictionaries(names, arrays, max_size=5))
def test_state_dicts_come_back_and_the_library_reads_them(value: dict[str, Any]) -> None:
    data = encoded(value)
    check(value, serializer.decode(data))
    theirs = safetensors.numpy.load(data)
    check(value, {name: theirs[name].copy() for name in value})
    if value:
        assert serializers.for_value(value).name == "safetensors"


@settings(deadline=None)
@given(st.dictionaries(names, arrays, max_size=5))
def test_files_of_the_library_are_read(value: dict[str, Any]) -> None:
    back = serializer.decode(safetensors.numpy.save(value, metadata={"a": "b"}))
    check(value, {name: back[name] for name in value})


def test_strides_byte_order_and_complex() -> None:
    value = {
        "t": np.arange(6.0).reshape(2, 3).T,
        "s": np.arange(10)[::-2],
        "be": np.arange(3, dtype=">f4"),
        "c": np.array([1 + 2j], "c8"),
    }
    check(value, serializer.decode(encoded(value)))


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.zeros(1, "M8[s]")},
        {"a": np.array([object()])},
        {"a": np.zeros(1, "c16")},
        {"a": np.zeros(1, "U3")},
        {"a": [1]},
        {1: np.zeros(1)},
        {"__metadata__": np.zeros(1)},
        {"\ud800": np.zeros(1)},
        {"a": np.ma.MaskedArray([1])},
        [np.zeros(1)],
    ],
)
def test_what_it_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="safetensors"):
        serializer.encode(value)


@settings(deadline=None)
@given(st.binary() | st.binary().map(lambda rest: b"\x02" + bytes(7) + b"{}" + rest))
def test_bytes_that_are_no_file_give_a_serialization_error(data: bytes) -> None:
    try:
        assert serializer.decode(data) == {}
        assert data[8:] == b"{}"
    except SerializationError as error:
        if "safetensors" not in str(error):
            raise


entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "F4", "BF16"]) | st.none(),
        "shape": st.lists(st.integers(-1, 3) | st.booleans() | st.just(2**62), max_size=3) | st.none(),
        "data_offsets": st.lists(st.integers(-4, 16), max_size=3) | st.none(),
    }
)


@settings(max_examples=effort(300, 60), deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entry | st.integers()),
    st.binary(max_size=16),
)
def test_any_header_gives_arrays_or_a_serialization_error(header: Any, rest: bytes) -> None:
    text = json.dumps(header).encode()
    try:
        serializer.decode(len(text).to_bytes(8, "little") + text + rest)
    except SerializationError:
        pass


@pytest.mark.parametrize(
    "shape", [[10**4000] * 2000, [1] * 100_000, [1 << 63, 0]], ids=["long", "many", "wide"]
)
def test_a_shape_that_no_array_has_is_refused(shape: list[int]) -> None:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header = json.dumps({"x": entry}).encode()
    with pytest.raises(SerializationError, match="a wrong entry for 'x'"):
        serializer.decode(struct.pack("<Q", len(header)) + header)


def test_damage_is_never_more_than_a_serialization_error() -> None:
    data = encoded({"a": np.arange(5.0), "b": np.zeros((2, 0), "i4"), "c": np.array(True)})
    dice = random.Random(1)
    for _ in range(1000):
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        try:
            serializer.decode(changed)
        except (SerializationError, MissingDependencyError):
            pass
    for size in range(len(data)):
        with pytest.raises(SerializationError):
            serializer.decode(data[:size])


def test_no_tensor_is_copied() -> None:
    value = {f"layer{number}": np.zeros((1024, 1024)) for number in range(4)}
    tracemalloc.start()
    try:
        assert sum(map(len, serializer.encode(value))) > 32 << 20
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_torch_is_named_where_it_is_missing() -> None:
    data = encoded({"a": np.zeros(1)}).replace(b'"format":"np"', b'"format":"pt"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        with pytest.raises(MissingDependencyError, match="torch"):
            serializer.decode(data)
    check({"a": np.zeros(1)}, SafetensorsSerializer("numpy").decode(data))
    with pytest.raises(InvalidArgumentError, match="framework"):
        SafetensorsSerializer("jax")  # type: ignore[arg-type]
