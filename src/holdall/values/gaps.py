"""The bytes between the numbers of an array, which hold whatever was in memory."""

from __future__ import annotations

from typing import Any, Final

from holdall.values.packages import needed

_LONG_DOUBLE: Final = 10
"""The bytes of a long double of x86, which take 12 or 16."""


def without_gaps(array: Any) -> Any:
    """Return the array with zeros between the numbers: these bytes hold whatever was in memory, so equal
    arrays would have different bytes, and the old contents of the memory would be written too."""
    if not _has_gaps(array.dtype):
        return array
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    # Not by zeros_like, which leaves the gaps as they are.
    made = needed("numpy", "arrays", "an array").zeros(
        array.shape, array.dtype, order="F" if fortran else "C"
    )
    _copy_numbers(array, made)
    return made


def _has_gaps(dtype: Any) -> bool:
    if dtype.subdtype is not None:
        return _has_gaps(dtype.subdtype[0])
    if dtype.names is not None:
        fields = [dtype[name] for name in dtype.names]
        return sum(each.itemsize for each in fields) != dtype.itemsize or any(map(_has_gaps, fields))
    # The 80 bits of x86, in 16 or 12 bytes.
    return dtype.char in "gG" and needed("numpy", "arrays", "an array").finfo(dtype).nmant == 63


def _copy_numbers(source: Any, target: Any) -> None:
    if source.dtype.names is not None:
        for name in source.dtype.names:
            _copy_numbers(source[name], target[name])
        return
    target[...] = source
    if not _has_gaps(source.dtype):
        return
    item: int = source.dtype.itemsize
    part = item // 2 if source.dtype.char == "G" else item
    first = 0 if source.dtype.byteorder == ">" else _LONG_DOUBLE
    starts = range(first, item, part)
    names = [str(start) for start in starts]
    gap = ("u1", part - _LONG_DOUBLE)
    gaps = target.view({"names": names, "formats": [gap] * len(names), "offsets": starts, "itemsize": item})
    for name in names:
        gaps[name] = 0
