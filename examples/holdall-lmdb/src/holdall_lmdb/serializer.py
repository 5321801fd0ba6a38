"""Fractions as text."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from holdall import SerializationError
from holdall.values import Buffer

__all__ = ["FractionSerializer"]


class FractionSerializer:
    """A `fractions.Fraction` as text, such as `3/4`.

    >>> FractionSerializer().decode(b"3/4")
    Fraction(3, 4)
    """

    name = "fraction"
    media_type = "text/x-fraction"
    extensions: tuple[str, ...] = (".fraction",)

    def accepts(self, value: object) -> bool:
        return type(value) is Fraction

    def encode(self, value: Fraction) -> Iterator[bytes]:
        yield str(value).encode()

    def decode(self, data: Buffer) -> Fraction:
        try:
            return Fraction(bytes(data).decode("ascii"))
        except (ValueError, ZeroDivisionError):
            raise SerializationError("this isn't a fraction, such as 3/4") from None
