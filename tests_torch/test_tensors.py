"""Tensors of PyTorch, which takes gigabytes to install, and so is tested apart: `make torch`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from holdall import SerializationError
from holdall.values import serializers
from holdall.values.tensors import SafetensorsSerializer

serializer = SafetensorsSerializer()

KEPT = [
    *(torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32),
    *(torch.uint64, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2),
]


def encoded(value: Any) -> bytes:
    return b"".join(bytes(piece) for piece in serializer.encode(value))


def check(one: torch.Tensor, other: torch.Tensor) -> None:
    assert type(other) is torch.Tensor
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert torch.equal(one.to(torch.complex128), other.to(torch.complex128))
    assert not other.requires_grad
    assert other.device.type == "cpu"
    other.zero_()


@pytest.mark.parametrize("dtype", KEPT, ids=str)
def test_each_type_comes_back_and_is_read_by_safetensors(dtype: torch.dtype) -> None:
    value = {"": torch.arange(24).reshape(2, 3, 4).to(dtype), "none": torch.zeros(0, 4).to(dtype)}
    data = encoded(value)
    read = safetensors.torch.load(data)
    for name, tensor in value.items():
        check(tensor, read[name])
        check(tensor, serializer.decode(data)[name])
        check(tensor, serializer.decode(safetensors.torch.save(value, {"format": "pt"}))[name])


def test_any_view_comes_back() -> None:
    rng = random.Random(0)
    for _ in range(2_000):
        tensor = torch.randint(0, 100, [rng.choice([0, 1, 1, 2, 3, 5]) for _ in range(rng.randrange(5))])
        tensor = tensor.to(rng.choice(KEPT))
        for _ in range(3):
            match rng.randrange(5):
                case 0 if tensor.dim() > 1:
                    tensor = tensor.transpose(0, -1)
                case 1 if tensor.dim():
                    tensor = tensor[:: rng.choice([1, 2, 3])]
                case 2 if tensor.dim():
                    tensor = tensor[..., -1:]
                case 3 if tensor.dim() < 3:
                    tensor = tensor.unsqueeze(0).expand(rng.choice([1, 2, 3]), *tensor.shape)
                case 4 if tensor.dim() and tensor.shape[0]:
                    tensor = tensor[0]
                case _:
                    continue
        check(tensor, serializer.decode(encoded({"x": tensor}))["x"])


def test_what_is_only_marked_is_carried_out() -> None:
    conjugate = torch.tensor([1 + 2j, 3 - 1j]).conj()
    back = serializer.decode(encoded({"conjugate": conjugate, "negative": conjugate.imag}))
    check(torch.tensor([1 - 2j, 3 + 1j]), back["conjugate"])
    check(torch.tensor([-2.0, 1.0]), back["negative"])


def test_a_state_dict_comes_back() -> None:
    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.LSTM(5, 3))

    one, other = model(), model()
    state = one.state_dict()
    assert serializers.for_value(state).name == "safetensors"
    data = encoded(state)
    other.load_state_dict(serializer.decode(data))
    assert all(torch.equal(a, b) for a, b in zip(state.values(), other.state_dict().values(), strict=True))
    arrays = SafetensorsSerializer("numpy").decode(data)
    assert np.array_equal(arrays["0.weight"], state["0.weight"].numpy())
    assert torch.equal(SafetensorsSerializer("torch").decode(encoded({"x": np.eye(2)}))["x"], torch.eye(2))


def test_tensors_that_share_memory_come_back_apart() -> None:
    shared = torch.zeros(3)
    back = serializer.decode(encoded({"a": shared, "b": shared, "part": shared[1:]}))
    back["a"] += 1
    assert (back["b"].sum(), back["part"].sum()) == (0, 0)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
        (lambda: torch.zeros(2, dtype=torch.complex128), "complex128"),
        (lambda: torch.zeros(2, device="meta"), "meta"),
        (lambda: torch.zeros(2, dtype=torch.float8_e5m2fnuz), "fnuz"),
    ],
    ids=["sparse", "complex", "meta", "fnuz"],
)
def test_what_the_format_has_no_word_for_is_refused(tensor: Any, why: str) -> None:
    with pytest.raises(SerializationError, match=f"'x'.*{why}"):
        encoded({"x": tensor()})


def test_bfloat16_is_nothing_for_numpy() -> None:
    data = encoded({"x": torch.zeros(2, dtype=torch.bfloat16)})
    with pytest.raises(SerializationError, match="BF16"):
        SafetensorsSerializer("numpy").decode(data)
    with pytest.raises(SerializationError, match="not both"):
        encoded({"x": torch.eye(2), "y": np.eye(2)})
