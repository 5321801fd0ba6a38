"""State dicts: tensors by name, in the safetensors format."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, cast

from holdall.arguments import check_choice
from holdall.errors import SerializationError
from holdall.values.packages import instance, needed
from holdall.values.same import type_name
from holdall.values.serializer import Buffer

__all__ = ["SafetensorsSerializer"]

_LENGTH: Final = struct.Struct("<Q")
_HEADER_LIMIT: Final = 100_000_000
"""The longest header that the safetensors library reads, in bytes."""
_DIMENSIONS: Final = 64
"""The most that NumPy and torch have; a product of millions would take minutes."""

# The name of each type in the format, in NumPy (None if NumPy lacks it) and in torch, and its bytes.
_TYPES: Final = (
    ("BOOL", "bool", "bool", 1),
    ("U8", "uint8", "uint8", 1),
    ("I8", "int8", "int8", 1),
    ("U16", "uint16", "uint16", 2),
    ("I16", "int16", "int16", 2),
    ("U32", "uint32", "uint32", 4),
    ("I32", "int32", "int32", 4),
    ("U64", "uint64", "uint64", 8),
    ("I64", "int64", "int64", 8),
    ("F16", "float16", "float16", 2),
    ("BF16", None, "bfloat16", 2),
    ("F32", "float32", "float32", 4),
    ("F64", "float64", "float64", 8),
    ("C64", "complex64", "complex64", 8),
    ("F8_E4M3", None, "float8_e4m3fn", 1),
    ("F8_E5M2", None, "float8_e5m2", 1),
)
_SIZE: Final = {name: size for name, _, _, size in _TYPES}
_NUMPY: Final = {name: numpy for name, numpy, _, _ in _TYPES if numpy}
_OF_NUMPY: Final = {numpy: name for name, numpy, _, _ in _TYPES if numpy}
_TORCH: Final = {name: torch for name, _, torch, _ in _TYPES}
_OF_TORCH: Final = {f"torch.{torch}": name for name, _, torch, _ in _TYPES}


class _Tensor(NamedTuple):
    type: str
    shape: tuple[int, ...]
    memory: memoryview


class SafetensorsSerializer:
    """A dict of NumPy arrays or of torch tensors, by name, in the safetensors format: a header of JSON, then
    the memory of each tensor, uncopied where it is in one piece.

    Names, their order, types and shapes are kept. Arrays of the other byte order come back in the format's,
    little-endian; torch tensors come back on the CPU, without their gradients; tensors that share memory come
    back apart.

    Args:
        framework: `decode` returns arrays of `numpy` or tensors of `torch`; by default those that the file
            was made of.

    See https://huggingface.co/docs/safetensors

    >>> import numpy as np
    >>> serializer = SafetensorsSerializer()
    >>> data = b"".join(serializer.encode({"bias": np.zeros(2, "f4")}))
    >>> serializer.decode(data)
    {'bias': array([0., 0.], dtype=float32)}
    """

    name = "safetensors"
    media_type = "application/x-safetensors"
    extensions: tuple[str, ...] = (".safetensors",)

    def __init__(self, framework: Literal["numpy", "torch"] | None = None) -> None:
        if framework is not None:
            check_choice(framework, "framework", ("numpy", "torch"))
        self._framework = framework

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, dict) or not value or not {"numpy", "torch"} & sys.modules.keys():
            return False
        return all(
            isinstance(name, str)
            and (
                (_is_array(each) and each.dtype.name in _OF_NUMPY and each.dtype.metadata is None)
                or instance(each, "torch", "Tensor")
            )
            for name, each in cast("dict[Any, Any]", value).items()
        )

    def encode(self, value: Any) -> Iterator[Buffer]:
        if not isinstance(value, Mapping):
            raise SerializationError(f"safetensors holds a dict of tensors, got {type_name(value)}")
        tensors: dict[str, _Tensor] = {}
        kinds: set[str] = set()
        for name, each in cast("Mapping[Any, Any]", value).items():
            if not isinstance(name, str) or name == "__metadata__":
                raise SerializationError(f"safetensors holds tensors by names of str, got the name {name!r}")
            if _is_array(each):
                kinds.add("np")
                tensors[name] = _of_array(name, each)
            elif instance(each, "torch", "Tensor"):
                kinds.add("pt")
                tensors[name] = _of_tensor(name, each)
            else:
                raise SerializationError(
                    f"safetensors holds tensors, and {name!r} is a {type(each).__name__}"
                )
        if len(kinds) > 1:
            raise SerializationError(
                "safetensors holds arrays of NumPy or tensors of torch, not both in one dict"
            )
        return _write_tensors(tensors, kinds.pop() if kinds else "np")

    def decode(self, data: Buffer) -> dict[str, Any]:
        view = memoryview(data)
        metadata, tensors = _parse_header(view)
        framework = self._framework or ("torch" if metadata.get("format") == "pt" else "numpy")
        make = _as_torch if framework == "torch" else _as_numpy
        return {name: make(name, tensor) for name, tensor in tensors.items()}


def _is_array(value: object) -> bool:
    return type(value) is getattr(sys.modules.get("numpy"), "ndarray", None)


def _of_array(name: str, array: Any) -> _Tensor:
    numpy = needed("numpy", "arrays", "safetensors")
    found = _OF_NUMPY.get(array.dtype.name)
    if found is None:
        raise SerializationError(
            f"safetensors can't hold {name!r}, an array of {array.dtype}: it holds bool, integers, floats "
            "and complex64; convert it with astype, or keep it under a key of its own"
        )
    shape = array.shape
    little = numpy.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return _Tensor(found, shape, memoryview(little.reshape(-1).view("u1")))


def _of_tensor(name: str, tensor: Any) -> _Tensor:
    torch = needed("torch", "torch", "a torch tensor")
    found = _OF_TORCH.get(str(tensor.dtype))
    if found is None or tensor.layout != torch.strided or tensor.is_quantized:
        raise SerializationError(
            f"safetensors can't hold {name!r}, a {tensor.layout} tensor of {tensor.dtype}"
        )
    if tensor.is_meta:
        raise SerializationError(f"{name!r} is on the device `meta`, so it lacks the numbers to keep")
    held = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    if held.stride(0) != 1:
        # A single item is contiguous with any stride, but can't be viewed as bytes with every one.
        held = held.clone(memory_format=torch.contiguous_format)
    # NumPy has no bfloat16; bytes are the same to both.
    return _Tensor(found, tuple(tensor.shape), memoryview(held.view(torch.uint8).numpy()))


def _write_tensors(tensors: dict[str, _Tensor], kind: str) -> Iterator[Buffer]:
    # The widest first, so that each is aligned.
    order = sorted(tensors, key=lambda name: -_SIZE[tensors[name].type])
    offsets: dict[str, tuple[int, int]] = {}
    end = 0
    for name in order:
        start, end = end, end + len(tensors[name].memory)
        offsets[name] = start, end
    header: dict[str, Any] = {"__metadata__": {"format": kind}}
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.type, "shape": tensor.shape, "data_offsets": offsets[name]}
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise SerializationError("safetensors can't hold a name with a lone surrogate") from error
    text += b" " * (-len(text) % 8)
    if len(text) > _HEADER_LIMIT:
        raise SerializationError(
            "safetensors can't hold this many tensors: its header has at most 100 MB; write several dicts"
        )
    return iter([_LENGTH.pack(len(text)) + text, *(tensors[name].memory for name in order)])


def _bad(why: str) -> SerializationError:
    return SerializationError(f"this isn't a safetensors file: {why}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != len(made := dict(pairs)):
        raise _bad("a name occurs twice")
    return made


def _parse_header(view: memoryview) -> tuple[dict[str, Any], dict[str, _Tensor]]:
    """Return the metadata and the tensors of the header, checked."""
    if len(view) < _LENGTH.size:
        raise _bad("it is too short")
    (length,) = _LENGTH.unpack(view[: _LENGTH.size])
    if length > min(_HEADER_LIMIT, len(view) - _LENGTH.size):
        raise _bad("its header was cut off")
    data = view[_LENGTH.size + length :]
    try:
        header = json.loads(
            str(view[_LENGTH.size : _LENGTH.size + length], "utf-8"), object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise _bad("its header isn't JSON") from error
    if not isinstance(header, dict):
        raise _bad("its header isn't a JSON object")
    entries = cast("dict[str, Any]", header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _bad("its metadata isn't a JSON object")
    tensors: dict[str, _Tensor] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in entries.items():
        kind, shape, start, stop = _entry(name, entry)
        if stop > len(data) or stop - start != _SIZE[kind] * math.prod(shape):
            raise _bad(f"{name!r} has another size than its shape says")
        spans.append((start, stop))
        tensors[name] = _Tensor(kind, shape, data[start:stop])
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise _bad("its tensors overlap, or leave a gap")
        end = stop
    if end != len(data):
        raise _bad("more follows its last tensor")
    return cast("dict[str, Any]", metadata), tensors


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        kind, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, stop]
    except (TypeError, KeyError, ValueError) as error:
        raise _bad(f"its header has a wrong entry for {name!r}") from error
    if not isinstance(kind, str) or kind not in _SIZE:
        raise _bad(f"{name!r} is of a type that isn't known here: {str(kind)[:20]}")
    if (
        not isinstance(shape, list)
        or len(numbers) > _DIMENSIONS + 2
        or any(type(each) is not int or not 0 <= each < 1 << 63 for each in numbers)
        or stop < start
    ):
        raise _bad(f"its header has a wrong entry for {name!r}")
    return kind, tuple(cast("list[int]", shape)), start, stop


def _as_numpy(name: str, tensor: _Tensor) -> Any:
    numpy = needed("numpy", "arrays", "safetensors")
    found = _NUMPY.get(tensor.type)
    if found is None:
        raise SerializationError(
            f"NumPy lacks {tensor.type}, the type of {name!r}; read it with SafetensorsSerializer('torch')"
        )
    try:
        flat = numpy.frombuffer(tensor.memory, numpy.dtype(found).newbyteorder("<")).astype(found)
        return flat.reshape(tensor.shape)
    except (ValueError, MemoryError) as error:
        raise _bad(f"{name!r}: {error}") from error


def _as_torch(name: str, tensor: _Tensor) -> Any:
    torch = needed("torch", "torch", "a file of torch tensors")
    dtype = getattr(torch, _TORCH[tensor.type], None)
    if dtype is None:
        raise SerializationError(f"this torch lacks {tensor.type}, the type of {name!r}")
    try:
        # torch needs a buffer that it may write to.
        held = torch.frombuffer(bytearray(tensor.memory), dtype=torch.uint8) if tensor.memory else None
        return (
            torch.empty(tensor.shape, dtype=dtype) if held is None else held.view(dtype).reshape(tensor.shape)
        )
    except (ValueError, RuntimeError) as error:
        raise _bad(f"{name!r}: {error}") from error
