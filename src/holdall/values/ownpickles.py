"""Pickles that the user's own key signs, which is made at the first need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast, get_args

from holdall.arguments import check_choice
from holdall.errors import InvalidArgumentError, UnsupportedOperation, UntrustedDataError
from holdall.masterkeys import Key, are_references, hidden, hidden_keys, shown
from holdall.userkey import VARIABLE, user_key
from holdall.values.pickles import MAGIC, Mode, PickleSerializer
from holdall.values.serializer import Buffer

_CONTEXT: Final = b"holdall values"


class OwnPickles:
    """Writes and reads signed pickles, as `PickleSerializer` does, by default with the user's own key.

    Args:
        mode: `signed` reads only what the key signed; `trust` writes bare pickles, and reads everybody's;
            `never` refuses both.
        key: Another key than the user's own, as `PickleSerializer` takes it. Of a mapping of names to keys
            the first one signs, and all are read.
        context: What the signatures are bound to, so that no value that was signed for something else is one.

    Raises:
        InvalidArgumentError: The mode or a key isn't valid.
    """

    _given: Any = None
    _mode: Mode = "signed"

    def __init__(
        self,
        mode: Mode = "signed",
        key: Key | Mapping[str, Key] | None = None,
        context: bytes = _CONTEXT,
    ) -> None:
        many = isinstance(key, Mapping)
        given: Any = None if key is None else hidden_keys(key) if many else hidden(key)
        # So that no traceback from here on shows a key.
        key = None
        check_choice(mode, "pickles", get_args(Mode))
        self._given, self._mode, self._context = given, mode, context
        if given is not None and mode != "signed":
            raise InvalidArgumentError(f"pickles={mode!r} signs nothing, so it takes no pickle_key")
        self._serializer = self._make_serializer(given) if given is not None or mode != "signed" else None

    def reads(self, data: bytes) -> bool:
        """Return whether bytes that aren't text are taken for a pickle: a signed one, of whatever version; or
        also a bare one, if everybody's are read."""
        if data[:7] == MAGIC[:7] and data[7:8] >= MAGIC[7:]:
            return True
        # Protocol 2 and later (PEP 307): the operation PROTO in front, STOP at the end.
        return (
            self._mode == "trust"
            and data[:1] == b"\x80"
            and b"\2" <= data[1:2] <= b"\5"
            and data[-1:] == b"."
        )

    @property
    def usual(self) -> bool:
        """Whether nothing was chosen."""
        return self._given is None and self._mode == "signed"

    def __repr__(self) -> str:
        held: Any = self._given
        if isinstance(held, dict):
            each = cast("dict[str, object]", held).items()
            key = "{" + ", ".join([f"{name!r}: {shown(value)}" for name, value in each]) + "}"
        else:
            key = "None" if held is None else shown(held)
        return f"pickles={self._mode!r}, pickle_key={key}"

    def __reduce__(self) -> tuple[object, ...]:
        held: Any = self._given
        keys = cast("dict[str, Any]", held).values() if isinstance(held, dict) else (held,)
        if not are_references(*keys):
            raise UnsupportedOperation(
                "a key that is held as bytes isn't pickled; give a reference as pickle_key, 'env:NAME' or "
                "'file:PATH', instead"
            )
        return OwnPickles, (self._mode, cast("object", held), self._context)

    def encode(self, value: Any) -> Iterable[Buffer]:
        """Return a value as a signed pickle.

        Raises:
            SerializationError: It can't be pickled.
            UntrustedDataError: Pickles aren't allowed.
        """
        return self._with_key(make=True).encode(value)

    def decode(self, data: Buffer) -> Any:
        """Return the value of a pickle.

        Raises:
            UntrustedDataError: It isn't signed with a known key, so that it isn't unpickled.
            SerializationError: It can't be unpickled here.
        """
        try:
            return self._with_key(make=False).decode(data)
        except UntrustedDataError as error:
            if self._mode == "never":
                raise
            raise UntrustedDataError(
                f"{error.message}. To read it, give the key of who wrote it, as pickle_key={{'mine': ..., "
                "'theirs': ...}, or pickles='trust' if you trust everyone who can write here"
            ) from error

    def _with_key(self, *, make: bool) -> PickleSerializer:
        if self._serializer is None:
            reference = user_key(make=make)
            if reference is None:
                raise UntrustedDataError(
                    f"you have no key yet that could have signed this pickle ({VARIABLE} isn't set, and your "
                    "settings have no pickle.key)"
                )
            self._serializer = self._make_serializer(reference)
        return self._serializer

    def _make_serializer(self, key: Any) -> PickleSerializer:
        current = next(iter(cast("dict[str, object]", key)), None) if isinstance(key, dict) else None
        return PickleSerializer(cast("Key | None", key), self._mode, current=current, context=self._context)
