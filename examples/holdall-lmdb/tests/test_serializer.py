"""Fractions come back as they were."""

from fractions import Fraction

import pytest
from holdall_lmdb import FractionSerializer

from holdall import MemoryStore, SerializationError, ValueStore
from holdall.values import Serializers


@pytest.mark.parametrize("value", [Fraction(3, 4), Fraction(-1, 3), Fraction(0), Fraction(10**400, 7)])
def test_each_fraction_comes_back(value: Fraction) -> None:
    made = FractionSerializer()
    assert made.decode(b"".join(made.encode(value))) == value


@pytest.mark.parametrize("data", [b"", b"half", b"\xff", b"1/0"])
def test_what_is_no_fraction_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="isn't a fraction"):
        FractionSerializer().decode(data)


@pytest.mark.parametrize("mode", ["typed", "fraction"])
def test_a_store_of_values_uses_it(mode: str) -> None:
    store = ValueStore(MemoryStore(), mode, serializers=Serializers([FractionSerializer()]))
    store["share"] = Fraction(3, 4)
    assert store["share"] == Fraction(3, 4)
    assert store.store["share"].endswith(b"3/4")
