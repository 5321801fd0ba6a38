"""What all faces have in common."""

from __future__ import annotations

from collections.abc import Callable

import fsspec
import joblib
import obstore.store
import pytest

import holdall.interop.joblib  # noqa: F401
from holdall import InvalidTypeError, MemoryStore, get_store
from holdall.interop.fsspec import HoldallFileSystem
from holdall.interop.keyvalue import HoldallKeyValue
from holdall.interop.obspec import ObspecStore
from holdall.interop.zarr import ZarrStore


def in_joblib(store: object) -> object:
    return joblib.Memory("cache", backend="holdall", backend_options={"store": store}, verbose=0)


def by_url(store: object) -> object:
    return fsspec.open("holdall://a", store=store)


FACES: list[Callable[..., object]] = [
    HoldallFileSystem,
    by_url,
    HoldallKeyValue,
    ObspecStore,
    ZarrStore,
    in_joblib,
]


@pytest.mark.parametrize("face", FACES)
def test_what_is_not_a_store_is_refused(face: Callable[..., object]) -> None:
    with get_store("memory://") as values:
        with pytest.raises(InvalidTypeError, match=r"takes a store, .* not ValueStore; give its \.store"):
            face(values)
        face(values.store)
    for wrong in (5, b"x", {}):
        with pytest.raises(
            InvalidTypeError, match=f"takes a store, or a URI .*, not {type(wrong).__name__}$"
        ):
            face(wrong)
    for wrong, hint in (
        (MemoryStore, r"not ABCMeta; MemoryStore is a class: give what MemoryStore\(\.\.\.\) returns"),
        (obstore.store.MemoryStore(), "not MemoryStore; it is of obstore"),
    ):
        with pytest.raises(InvalidTypeError, match=hint):
            face(wrong)
