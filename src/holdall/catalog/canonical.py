"""The digest of a value: SHA-256 over a canonical form, which no codec, library or machine changes.

Every digest begins with `holdall content 1`, a NUL, the kind of the value and a NUL. What follows is given
with each function. Numbers are little-endian; a *field* is its length as 64 bits, then its bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from holdall.stopping import stoppable
from holdall.values.gaps import _has_gaps, without_gaps
from holdall.values.json import MARK, _add_marks
from holdall.values.packages import instance, needed
from holdall.values.serializer import Buffer
from holdall.values.tensors import _of_array, _of_tensor

_HEAD: Final = b"holdall content 1\0"
_LENGTH: Final = struct.Struct("<Q")
_PART: Final = 4 << 20
"""The most bytes of an array that are copied at once."""
_STEP: Final = 64 << 20
"""The most bytes that are hashed without a look whether the call is stopped. Blosc2 keeps the interpreter's
lock while it compresses, and after each step the thread that hashes has to wait for it."""


def make_dumps(default: Callable[[Any], Any], *, sort_keys: bool = False) -> Callable[[Any], str]:
    """Return what writes JSON as the serializer of JSON does. `JSONEncoder.encode` makes an encoder in C for
    each value, which takes longer than a small value itself."""
    encoder: Any = json.encoder
    write = encoder.c_make_encoder(
        None, default, encoder.encode_basestring, None, ":", ",", sort_keys, False, False
    )
    return lambda value: "".join(write(value, 0))


_sorted_dumps = make_dumps(json.JSONEncoder().default, sort_keys=True)
dumps = make_dumps(json.JSONEncoder().default)
"""Write JSON of a value that holds nothing else, and not itself, in the order of its dicts."""


def begin(kind: str) -> Any:
    """Return a hash of a kind of value, to which its canonical bytes are given."""
    return hashlib.sha256(_HEAD + kind.encode() + b"\0")


def field(to: Any, data: Buffer) -> None:
    """Give a hash some bytes after their length, so that they can't run into the next."""
    to.update(_LENGTH.pack(len(data)))
    to.update(data)


def note(to: Any, what: Any) -> None:
    """Give a hash a description made of lists, str, int, bool and None, as a field of JSON in ASCII."""
    field(to, json.dumps(what, separators=(",", ":"), sort_keys=True).encode("ascii"))


def plain_digest(kind: str, data: Buffer) -> str:
    """Return the digest of bytes that are canonical as they are: those of `bytes`, of a `text` in UTF-8, of
    a `json` in its canonical form, or of a format without a canonical form."""
    made = begin(kind)
    made.update(data)
    return made.hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return JSON that is the same for equal values: the house's own, with the keys of objects, the pairs of
    its `dict` marker and the members of sets in one order.

    Raises:
        SerializationError: It is nested too deep, or contains itself.

    >>> canonical_json({"b": 1.0, "a": {3, 1}})
    b'{"a":{"$holdall":"set","value":[1,3]},"b":1.0}'
    """
    return sorted_json(_add_marks(value, set()))


def plain_json(value: Any) -> bytes:
    """Return the same of a value that plain JSON holds, quickly.

    Raises:
        ValueError: It holds a number that JSON lacks.
    """
    return _sorted_dumps(value).encode()


def sorted_json(marked: Any) -> bytes:
    """Return the same of a value whose markers are written already."""
    text = _sorted_dumps(marked)
    if f'"{MARK}":"dict"' in text:
        text = _sorted_dumps(_with_sorted_pairs(marked))
    return text.encode()


def _with_sorted_pairs(marked: Any) -> Any:
    """Return JSON in which the pairs of each dict with keys of any type are sorted by their keys' JSON."""
    if isinstance(marked, list):
        return [_with_sorted_pairs(each) for each in cast("list[Any]", marked)]
    if not isinstance(marked, dict):
        return marked
    members = cast("dict[str, Any]", marked)
    made = {key: _with_sorted_pairs(each) for key, each in members.items()}
    if members.get(MARK) == "dict":
        made["value"].sort(key=_key_of)
    elif members.get(MARK) in ("set", "frozenset"):
        made["value"].sort(key=dumps)
    return made


def _key_of(pair: list[Any]) -> str:
    return dumps(pair[0])


def model_digest(kind: str, name: str, text: bytes) -> str:
    """Return the digest of a model: the name of its class as a field, its JSON with sorted keys."""
    made = begin(kind)
    field(made, name.encode())
    made.update(_sorted_dumps(json.loads(text)).encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def array_digest(array: Any) -> str:
    """Return the digest of an array: its type and its shape as a field of JSON, its items in C order. Of a
    masked array: the same of its data, of its mask and of its fill value, and whether the mask is hard.

    The items are hashed as they lie in memory: `-0.0` isn't `0.0`, a NaN has its payload, and bytes between
    the numbers are zeros. No more than 4 MiB of an array are copied at once.

    Args:
        array: A NumPy array without Python objects.
    """
    if instance(array, "numpy.ma", "MaskedArray"):
        numpy = needed("numpy", "catalog", "an array")
        made = begin("masked array")
        fill = numpy.asarray(array.fill_value, array.dtype)
        for part in (numpy.asarray(array.data), numpy.ma.getmaskarray(array), fill):
            update_array(made, part)
        note(made, bool(array.hardmask))
        return made.hexdigest()
    made = begin("array")
    update_array(made, array)
    return made.hexdigest()


def update_array(to: Any, array: Any) -> None:
    """Give an array to a hash: its type and shape, then its items."""
    note(to, [_describe(array.dtype), list(array.shape)])
    if not array.nbytes:
        return
    numpy = needed("numpy", "catalog", "an array")
    for part in _parts(array):
        flat = numpy.ascontiguousarray(without_gaps(part)).reshape(-1).view("u1")
        for at in stoppable(range(0, len(flat), _STEP)):
            # Python lets other threads run meanwhile.
            to.update(flat[at : at + _STEP])


def _parts(array: Any) -> Iterator[Any]:
    """Yield an array in parts that make it up in C order, and that are small where they must be copied."""
    if array.nbytes <= _PART or (array.flags.c_contiguous and not _has_gaps(array.dtype)):
        yield array
        return
    row = array.nbytes // len(array)
    if row > _PART:
        for each in array:
            yield from _parts(each)
        return
    step = _PART // row
    for at in range(0, len(array), step):
        yield array[at : at + step]


def _describe(dtype: Any) -> Any:
    """Return a type as JSON: `<f8`, `<M8[ns]`, `|S5`; of a record its size and its fields, each with its
    name, title, place and type; of a subarray its type and shape."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe(base), list(shape)]
    if dtype.names is None:
        return dtype.str
    fields: list[Any] = []
    for name in dtype.names:
        kind, place, *title = dtype.fields[name]
        fields.append([name, *map(str, title[:1] or [""]), place, _describe(kind)])
    return {"size": dtype.itemsize, "fields": fields}


def tensors_digest(tensors: dict[str, Any]) -> str:
    """Return the digest of a dict of arrays or of torch tensors: the framework, and, ordered by name, the
    name, type and shape of each as a field of JSON, and its items in C order, little-endian. The order of
    the dict doesn't count."""
    torch = any(instance(each, "torch", "Tensor") for each in tensors.values())
    made = begin("torch tensors" if torch else "tensors")
    for name in sorted(tensors):
        held = (_of_tensor if torch else _of_array)(name, tensors[name])
        note(made, [name, held.type, list(held.shape)])
        made.update(held.memory)
    return made.hexdigest()
