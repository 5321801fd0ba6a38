"""The serializers, by value, name, media type and file name."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from holdall.errors import InvalidArgumentError, SerializationError, StoreError
from holdall.plugins import SERIALIZERS, Plugin, read_plugins
from holdall.values.json import unheld
from holdall.values.same import type_name
from holdall.values.serializer import Buffer, Serializer

# In this order they are asked whether they accept a value. Of several for one media type or extension the
# first is taken, so that JSON without a model is read as JSON.
_BUILT_IN = (
    "raw:BytesSerializer",
    "raw:TextSerializer",
    "tensors:SafetensorsSerializer",
    "arrays:ArraySerializer",
    "arrays:NpySerializer",
    "arrays:PlainNpySerializer",
    "frames:ParquetSerializer",
    "images:ImageSerializer",
    "audio:AudioSerializer",
    "video:VideoSerializer",
    "json:JsonSerializer",
    "models:PydanticSerializer",
    "models:MsgspecSerializer",
    "yaml:YamlSerializer",
    "pickles:PickleSerializer",
)


_MODES = ("raw", "auto", "json", "pickle", "typed")
"""What a serialization mode may be besides the name of a serializer."""


class Serializers:
    """A set of serializers. The one that was registered last is asked first.

    Args:
        members: The serializers, in the order in which they are asked whether they accept a value.

    >>> from holdall.values import serializers
    >>> serializers.for_value({"a": 1}).name, serializers.for_key("notes/today.txt").name
    ('json', 'text')
    """

    def __init__(self, members: Iterable[Serializer] = ()) -> None:
        self._members = tuple(members)
        self._left_out: dict[Plugin, tuple[str, str]] = {}
        self._lock = threading.RLock()

    def register(self, serializer: Serializer) -> None:
        """Add a serializer, which is asked before all others. It takes the place of one with the same name.

        Raises:
            InvalidArgumentError: It lacks a part of the protocol, or is a class.
        """
        _check_protocol(serializer)
        with self._lock:
            self._members = _add(serializer, tuple(self))

    def __iter__(self) -> Iterator[Serializer]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __reduce__(self) -> str | tuple[object, ...]:
        return type(self), (tuple(self),)

    def for_value(self, value: Any) -> Serializer:
        """Return the first serializer that accepts a value.

        Raises:
            SerializationError: None accepts it, or one fails when it is asked.
        """
        found = self._accepting(value)
        if found is None:
            raise SerializationError(
                f"no serializer accepts {unheld(value) or type_name(value)}; register one, such as "
                "PickleSerializer(key=...), convert the value, or give it as bytes"
            )
        return found

    def _accepting(self, value: Any) -> Serializer | None:
        """Return the first serializer that accepts a value; None without one."""
        for each in self:
            try:
                if each.accepts(value):
                    return each
            # A serializer of another package may raise anything; the message names it.
            except Exception as error:
                raise SerializationError(
                    f"the serializer {each.name!r} fails when it is asked whether it accepts a "
                    f"{type(value).__module__}.{type(value).__qualname__}: {error!r}"
                ) from error
        return None

    def named(self, name: str) -> Serializer:
        """Return the serializer with a name.

        Raises:
            InvalidArgumentError: The name is unknown.
        """
        for each in self:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self)
        raise InvalidArgumentError(f"no serializer is named {name!r}; known are {known}{self._why_not(name)}")

    def _why_not(self, name: object) -> str:
        """Return which plug-ins of a name are left out, and why, as the end of a sentence."""
        left_out = self._left_out.items()
        return "".join(f"; {plugin} is left out: {why}" for plugin, (of, why) in left_out if of == name)

    def for_media_type(self, media_type: str) -> Serializer | None:
        """Return the serializer of a media type, whose parameters and case don't matter."""
        wanted = media_type.partition(";")[0].strip().lower()
        return next((each for each in self if each.media_type.lower() == wanted), None)

    def for_key(self, key: str) -> Serializer | None:
        """Return the serializer whose extension a key ends with; the longest extension counts."""
        name = key.rpartition("/")[2].lower()
        best, length = None, 0
        for each in self:
            for extension in each.extensions:
                if len(extension) > length and name.endswith(extension) and name != extension:
                    best, length = each, len(extension)
        return best


def _check_protocol(serializer: object) -> None:
    """Refuse what lacks a part of the protocol."""
    if isinstance(serializer, type):
        raise InvalidArgumentError(
            f"{serializer!r} is a class; register an instance of it: {serializer.__name__}()"
        )
    if not isinstance(serializer, Serializer):
        raise InvalidArgumentError(
            f"{serializer!r} isn't a serializer: it must have name, media_type, extensions, accepts, encode "
            "and decode"
        )
    extensions: Any = serializer.extensions
    # A str is a sequence of str too: each key that ends with "t" would match ".point".
    if isinstance(extensions, str) or not all(
        isinstance(each, str) and each.startswith(".") and each == each.lower() for each in extensions
    ):
        raise InvalidArgumentError(
            f"the extensions of {serializer!r} must be a tuple of endings of file names, with the dot and in "
            f"lower case, such as ('.point',), not {extensions!r}"
        )
    if not isinstance(serializer.name, str) or not isinstance(serializer.media_type, str):
        raise InvalidArgumentError(f"the name and the media_type of {serializer!r} must be str")


def _add(serializer: Serializer, members: tuple[Serializer, ...]) -> tuple[Serializer, ...]:
    """Return the members with another one, which comes first, or replaces the one with its name."""
    if any(each.name == serializer.name for each in members):
        # In its place, so that a PickleSerializer with a key, which accepts anything, stays the last.
        return tuple(serializer if each.name == serializer.name else each for each in members)
    return (serializer, *members)


def joined(pieces: Iterable[Buffer]) -> bytes:
    """Join buffers to one bytes object, with as few copies as possible."""
    if isinstance(pieces, (tuple, list)):
        # They exist at once, so that they are joined without a copy of each.
        whole = pieces[0] if len(pieces) == 1 else None
        return whole if type(whole) is bytes else b"".join(pieces)
    held = [bytes(piece) for piece in pieces]
    return held[0] if len(held) == 1 else b"".join(held)


class _Default(Serializers):
    """The built-in serializers, and those of other packages, found when they are first needed."""

    _complete = False

    def __iter__(self) -> Iterator[Serializer]:
        with self._lock:
            if not self._members:
                self._members = tuple(self._load_built_in())
            if not self._complete:
                # Set first: a module that brings one may ask for others, or register them, as it is imported.
                self._complete = True
                self._add_plugins({*_MODES, *(each.name for each in self._members)})
        return iter(self._members)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reduce__(self) -> str:
        return "serializers"  # the one of that name in this module, which another process has too

    @staticmethod
    def _load_built_in() -> Iterator[Serializer]:
        for each in _BUILT_IN:
            module, _, name = each.partition(":")
            yield getattr(import_module(f"holdall.values.{module}"), name)()

    def _add_plugins(self, own: set[str]) -> None:
        """Add those of other packages. What can't be used is left out with a warning: an error in one package
        must not take all other formats from users."""
        brought: list[tuple[Plugin, Serializer]] = []
        for plugin in reversed(read_plugins(SERIALIZERS)):
            try:
                loaded = plugin.load()
                made = loaded() if isinstance(loaded, type) else loaded
                _check_protocol(made)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - another's package may raise anything
                why = str(error) if isinstance(error, StoreError) else repr(error)
                self._leave_out(plugin, plugin.name, why.replace(str(plugin), "it", 1))
            else:
                brought.append((plugin, made))
        for plugin, made in brought:
            same = [each.package for each, other in brought if other.name == made.name]
            if made.name in own:
                why = (
                    "holdall itself uses this name; a program that wants to replace its own calls register()"
                )
                self._leave_out(plugin, made.name, why)
            elif len(same) > 1:
                why = f"{' and '.join(sorted(same))} each bring one of this name; uninstall all but one"
                self._leave_out(plugin, made.name, why)
            else:
                self._members = _add(made, self._members)

    def _leave_out(self, plugin: Plugin, name: str, why: str) -> None:
        self._left_out[plugin] = name, why
        warnings.warn(f"{plugin} is left out: {why}", RuntimeWarning, stacklevel=4)


serializers: Serializers = _Default()
"""The serializers that are used by default."""


def register(serializer: Serializer) -> None:
    """Add a serializer to those that are used by default; packages do it by an entry point in the group
    `holdall.serializers`.

    Raises:
        InvalidArgumentError: It lacks a part of the protocol.
    """
    serializers.register(serializer)


def check_serializer(plugin: Plugin) -> None:
    """Check that a serializer that a package brings by an entry point is used.

    Raises:
        InvalidArgumentError: It isn't; the message says why.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        len(serializers)
    if plugin in serializers._left_out:
        raise InvalidArgumentError(f"it isn't used: {serializers._left_out[plugin][1]}")
