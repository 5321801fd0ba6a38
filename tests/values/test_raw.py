"""Bytes and text as they are."""

import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import SerializationError
from holdall.values.raw import BytesSerializer, TextSerializer


@settings(deadline=None)
@given(st.binary())
def test_bytes_come_back(data: bytes) -> None:
    serializer = BytesSerializer()
    for value in (data, bytearray(data), memoryview(data)):
        assert serializer.accepts(value)
        pieces = serializer.encode(value)
        assert serializer.decode(b"".join(pieces)) == data
    assert serializer.encode(data)[0] is data


def test_views_of_any_shape_give_their_bytes() -> None:
    numbers = memoryview(array.array("i", [1, 2, 3]))
    assert b"".join(BytesSerializer().encode(numbers)) == numbers.tobytes()
    assert b"".join(BytesSerializer().encode(memoryview(b"abcdef")[::2])) == b"ace"
    assert b"".join(BytesSerializer().encode(memoryview(array.array("i")))) == b""


@pytest.mark.parametrize("value", ["a", 1, None, [1]])
def test_bytes_take_nothing_else(value: object) -> None:
    assert not BytesSerializer().accepts(value)
    with pytest.raises(SerializationError, match="bytes"):
        BytesSerializer().encode(value)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_text_comes_back(text: str) -> None:
    assert TextSerializer().decode(b"".join(TextSerializer().encode(text))) == text


@settings(deadline=None)
@given(st.binary())
def test_text_is_utf8_or_refused(data: bytes) -> None:
    try:
        text = TextSerializer().decode(memoryview(data))
    except SerializationError as error:
        if "UTF-8" not in str(error):
            raise
    else:
        assert text.encode() == data


@pytest.mark.parametrize("value", ["a\ud800", b"a", 1])
def test_text_refuses_lone_surrogates_and_other_types(value: object) -> None:
    with pytest.raises(SerializationError, match="text"):
        TextSerializer().encode(value)
