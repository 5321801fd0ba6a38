"""The key of a call: SHA-256 over the function's name and the canonical form of each argument.

What is hashed: `holdall call 1` and a NUL; the fields of the module and the qualified name; the form of the
version; a field of what a function within a function captures; then for each parameter, in the order of the
signature, a field of its name and the form of its value. Of the object or class that a method belongs to, the
form of its class stands in for it; see `Keys`. What `key=` returns stands in for all parameters.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from types import CellType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple, NoReturn, Protocol, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from holdall.arguments import check_type
from holdall.errors import InvalidArgumentError, InvalidTypeError
from holdall.forks import in_child
from holdall.memoize.canonical import (
    HOOK,
    PLAIN,
    FormlessError,
    class_form,
    encode,
    field,
    found_by_name,
    home_of,
    name_form,
)
from holdall.values.same import place_of

_HEAD: Final = b"holdall call 1\0"
_NO_DEFAULT: Final = inspect.Parameter.empty
_CONSTANT: Final = frozenset((int, str, float, bool, type(None), bytes, complex))
_LONGEST: Final = 120
_STEADY: Final = frozenset((int, str, bool, type(None), bytes))
"""Types whose equal values have equal forms; 0.0 and -0.0 haven't."""
_KNOWN: Final = 4_000
"""The number of keys that are remembered, of arguments with forms of at most `_SHORT` bytes."""
_SHORT: Final = 1_000

_POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
_KEYWORD_ONLY: Final = inspect.Parameter.KEYWORD_ONLY
_VAR_POSITIONAL: Final = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD: Final = inspect.Parameter.VAR_KEYWORD


class _Parameter(NamedTuple):
    name: str
    label: bytes
    """The field of its name; empty where the key leaves it out."""
    by_name: bool
    default: Any
    form: bytes | None
    """Of the default, where this can't change."""


class Quick(Protocol):
    """Makes the key of a call with plain arguments; see `Keys._make_quick`."""

    def __call__(self, args: tuple[Any, ...], owner: bytes | None = None) -> str | None: ...


def _never(args: tuple[Any, ...], owner: bytes | None = None) -> str | None:
    return None


class Keys:
    """Makes the keys of one function.

    Args:
        function: The function, without decorators.
        key: What stands for the arguments, called with them.
        ignore: The names of the parameters that are left out.
        version: A value; another one gives other keys.

    Raises:
        InvalidArgumentError: `ignore` names what isn't a parameter, or the version lacks a canonical form.

    >>> def area(width, height=1): ...
    >>> keys = Keys(area)
    >>> keys.of((2,), {}) == keys.of((), {"height": 1, "width": 2}), keys.of((2,), {}) == keys.of((2.0,), {})
    (True, False)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        key: Callable[..., Any] | None = None,
        ignore: str | Iterable[str] = (),
        version: Any = None,
    ) -> None:
        if key is not None and not callable(key):
            raise InvalidTypeError(f"key must be a function of the arguments, not {type(key).__name__}")
        self.function = function
        self.name = function.__qualname__
        self._signature = inspect.signature(function)
        self._key = key
        self._ignored = _names(ignore)
        self._by_value = version is None and key is None
        self._read_parameters(self._ignored)
        module = home_of(function.__module__)
        try:
            form = encode(version)
        except (FormlessError, RecursionError) as error:
            raise InvalidArgumentError(
                f"version={version!r} of {self.name} lacks a canonical form: give a str, a number or a tuple "
                "of these"
            ) from error
        self._begin = _HEAD + field(module.encode()) + field(self.name.encode()) + form
        self._head: bytes | None = None
        self.quick: Quick = _never
        self._known: dict[tuple[type[Any], ...], dict[tuple[Any, ...], str]] = {}
        self._owners: WeakKeyDictionary[type[Any], bytes] = WeakKeyDictionary()
        self._tokens: dict[str, _Token] = {}
        self._captures = _find_captures(function) if self._by_value else []
        self.folder = f"{segment(module)}/{segment(self.name)}/"
        self._prepare()

    def _read_parameters(self, ignored: frozenset[str]) -> None:
        self._positional: list[_Parameter] = []
        self._named: list[_Parameter] = []
        self._more: _Parameter | None = None
        self._options: _Parameter | None = None
        for each in self._signature.parameters.values():
            label = b"" if each.name in ignored else field(each.name.encode())
            constant = type(each.default) in _CONSTANT
            made = _Parameter(
                each.name,
                label,
                each.kind is not _POSITIONAL_ONLY,
                each.default,
                encode(each.default) if constant else None,
            )
            if each.kind is _VAR_POSITIONAL:
                self._more = made
            elif each.kind is _VAR_KEYWORD:
                self._options = made
            elif each.kind is _KEYWORD_ONLY:
                self._named.append(made)
            else:
                self._positional.append(made)
        unknown = ignored - set(self._signature.parameters)
        if unknown and self._options is None:
            known = ", ".join(self._signature.parameters) or "none"
            raise InvalidArgumentError(
                f"ignore names {', '.join(sorted(unknown))}, and the parameters of {self.name} are {known}"
            )

    def _prepare(self) -> bytes:
        """Note what the function captures, once all of it is there; return what each key begins with."""
        for name, cell in self._captures:
            if name not in self._tokens and (token := _token_of(cell, self.function)) is not None:
                self._tokens[name] = token
        captured = [field(name.encode()) + token.form for name, token in sorted(self._tokens.items())]
        head = self._begin + field(b"".join(captured))
        if len(captured) == len(self._captures):
            self._head = head
            self.quick = self._make_quick(head)
        return head

    def _make_quick(self, head: bytes) -> Quick:
        """Return what makes the key of a call with positional arguments of plain types, in a fraction of the
        time of the general way; it returns None for other calls."""
        labels = [each.label for each in self._positional]
        if self._key is not None or self._options is not None or self._more is not None or b"" in labels:
            return _never
        tails = self._make_tails()
        most, form_of, steady = len(labels), cast("Callable[[Any], Any]", PLAIN.get), _STEADY.issuperset
        known = self._known
        remembered = 0

        def quick(args: tuple[Any, ...], owner: bytes | None = None) -> str | None:
            nonlocal remembered
            kinds = tuple(map(type, args))
            # Only those of types whose hash runs no code of others; an owner's type isn't one.
            same = known.get(kinds)
            if same is not None and (found := same.get(args)) is not None:
                return found
            count = len(args)
            tail = tails[count] if count <= most else None
            if tail is None:
                return None
            data = head
            for label, value in zip(labels, args, strict=False):
                if owner is not None:
                    data += label + owner
                    owner = None
                    continue
                form = form_of(type(value))
                if form is None:
                    return None
                data += label + form(value)
            found = sha256(data + tail).hexdigest()
            if len(data) <= _SHORT and steady(kinds):
                remembered += 1
                if remembered > _KNOWN:
                    known.clear()
                    remembered = 1
                known.setdefault(kinds, {})[args] = found
            return found

        return quick

    def _make_tails(self) -> list[bytes | None]:
        """Return for each number of positional arguments what the others add to the key, where that is the
        same for every call."""
        tail: bytes | None = b""
        for each in self._named:
            if each.label:
                tail = None if tail is None or each.form is None else tail + each.label + each.form
            elif each.default is _NO_DEFAULT:
                tail = None
        tails = [tail]
        for each in reversed(self._positional):
            tail = None if tail is None or each.form is None else each.label + each.form + tail
            tails.append(tail)
        return tails[::-1]

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], owner: Any = None) -> str:
        """Return the key of a call, as 64 hexadecimal digits.

        Args:
            args: The arguments by position, with the owner if there is one.
            kwargs: The arguments by name.
            owner: The object or the class whose method is called.

        Raises:
            TypeError: The function doesn't take these arguments.
            InvalidTypeError: An argument lacks a canonical form.
        """
        head = self._head or self._prepare()
        if self._key is not None:
            parts = [head, b"key", self.owner_form(owner), self._form("key=", self._key(*args, **kwargs))]
        else:
            parts = [head, *self._parts(args, kwargs, owner)]
        return sha256(b"".join(parts)).hexdigest()

    def _parts(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], owner: Any) -> list[bytes]:
        left = dict(kwargs)
        parts: list[bytes] = []
        first = 0
        if owner is not None:
            # `self` may be the first of `*args`.
            if self._positional:
                parts += (self._positional[0].label, self.owner_form(owner))
                first = 1
            else:
                parts += (b"self", self.owner_form(owner))
                args = args[1:]
        count = len(self._positional)
        if len(args) > count and self._more is None:
            self._refuse(args, kwargs)
        for at, parameter in enumerate(self._positional):
            if at < first:
                continue
            if at < len(args):
                if parameter.by_name and parameter.name in left:
                    self._refuse(args, kwargs)
                self._add(parts, parameter, args[at])
            elif parameter.by_name and parameter.name in left:
                self._add(parts, parameter, left.pop(parameter.name))
            else:
                self._add_default(parts, parameter, args, kwargs)
        if self._more is not None:
            self._add(parts, self._more, args[count:])
        for parameter in self._named:
            if parameter.name in left:
                self._add(parts, parameter, left.pop(parameter.name))
            else:
                self._add_default(parts, parameter, args, kwargs)
        if self._options is not None:
            # The order in which options are written doesn't count.
            options = {name: left[name] for name in sorted(left) if name not in self._ignored}
            self._add(parts, self._options, options)
        elif left:
            self._refuse(args, kwargs)
        return parts

    def _add(self, parts: list[bytes], parameter: _Parameter, value: Any) -> None:
        if parameter.label:
            parts += (parameter.label, self._form(parameter.name, value))

    def _add_default(
        self, parts: list[bytes], parameter: _Parameter, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if parameter.form is not None and parameter.label:
            parts += (parameter.label, parameter.form)
        elif parameter.default is _NO_DEFAULT:
            self._refuse(args, kwargs)
        else:
            self._add(parts, parameter, parameter.default)

    def _form(self, name: str, value: Any) -> bytes:
        try:
            return encode(value)
        except FormlessError as error:
            place = place_of(value, error.culprit)
            what = f"{error} (at {place})" if place else str(error)
        except RecursionError:
            what = "a value that contains itself, or is nested too deep"
        if name == "key=":
            raise InvalidTypeError(
                f"key= of {self.name} returned {what}, which has no canonical form: return a str, a number, "
                "a date or a tuple of these"
            )
        raise InvalidTypeError(
            f"the argument {name!r} of {self.name} is {what}, which has no canonical form to make a key of: "
            f"give key=..., a function that returns what stands for the arguments; or ignore={name!r}, if it "
            f"doesn't change the result; or give its class a method {HOOK}. For the self of a method, put "
            "@cached above its other decorators"
        )

    def owner_form(self, owner: Any) -> bytes:
        """Return the form of what a method belongs to: of the class, unless this says what stands for an
        object."""
        if owner is None:
            return b"-"
        kind = cast("type[Any]", owner if isinstance(owner, type) else type(owner))
        form = self._owners.get(kind)
        if form is None:
            form = self._owners[kind] = class_form(kind) if self._by_value else name_form(kind)
        if isinstance(owner, type) or not hasattr(kind, HOOK):
            return form
        try:
            return form + encode(getattr(owner, HOOK)())
        except (FormlessError, RecursionError) as error:
            raise InvalidTypeError(
                f"{HOOK} of {kind.__qualname__} returned {error}, which has no canonical form: return a str, "
                "a number, a date or a tuple of these"
            ) from error

    def _refuse(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NoReturn:
        """Raise the TypeError of a call with wrong arguments."""
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        raise AssertionError(f"{self.name} takes these arguments")


def _names(ignore: object) -> frozenset[str]:
    if isinstance(ignore, str):
        return frozenset((ignore,))
    check_type(ignore, Iterable, "ignore must be a str or several, the names of parameters")
    names = tuple(cast("Iterable[object]", ignore))
    for name in names:
        check_type(name, str, "ignore must be a str or several, the names of parameters")
    return frozenset(cast("tuple[str, ...]", names))


def segment(name: str) -> str:
    """Return a name as one segment of a key, with a digest of it where it isn't as it was.

    >>> segment("pkg.module"), segment("Class.method")
    ('pkg.module', 'Class.method')
    >>> segment("make.<locals>.f"), segment("__main__ /home/ada/run.py")
    ('make.(locals).f-7d45168a', '__main__-home-ada-run.py-6c3d3822')
    """
    shown = name.replace("<locals>", "(locals)").replace(" /", "/")
    made = "".join([each if each.isascii() and (each.isalnum() or each in "._()") else "-" for each in shown])
    made = made[-_LONGEST:].strip(".")
    return made if made == name else f"{made}-{sha256(name.encode()).hexdigest()[:8]}"


class _Token:
    """The form of a captured variable, for as long as a function that captures it is cached."""

    def __init__(self, cell: CellType, form: bytes) -> None:
        self.cell = cell
        self.form = form


_cells: WeakValueDictionary[int, _Token] = WeakValueDictionary()
_making = threading.RLock()


@in_child
def _after_fork() -> None:
    # A thread that isn't in the child may have had it.
    global _making
    _making = threading.RLock()


def _find_captures(function: Callable[..., Any]) -> list[tuple[str, CellType]]:
    """Return the variables that a function within a function captures. The wrapper of a decorator has the
    name of the function that it wraps, which says what it captures."""
    closure: tuple[CellType, ...] = getattr(function, "__closure__", None) or ()
    if "<locals>" not in function.__qualname__:
        return []
    return list(zip(cast(Any, function).__code__.co_freevars, closure, strict=True))


def _token_of(cell: CellType, function: Callable[..., Any]) -> _Token | None:
    """Return the form of a captured variable, as it was when it was first looked at; None if it has no value
    yet. Functions that capture the same variable have the same form of it."""
    with _making:
        known = _cells.get(id(cell))
        if known is None:
            form = _value_form(cell, function)
            if form is None:
                return None
            known = _cells[id(cell)] = _Token(cell, form)
        return known


def _has_name(function: FunctionType) -> bool:
    """Return whether a function is known by its name: not a lambda, nor one of several that a decorator made.
    What is being decorated isn't found by its name yet."""
    name = function.__qualname__
    if "<locals>" in name or name.endswith("<lambda>"):
        return False
    return function.__closure__ is None or found_by_name(function) in (function, None)


def _value_form(cell: CellType, function: Callable[..., Any]) -> bytes | None:
    try:
        value = cell.cell_contents
    except ValueError:
        return None
    if getattr(value, "__wrapped__", value) is function:
        return b"itself"
    if isinstance(value, ModuleType):
        return b"module" + field(value.__name__.encode())
    if isinstance(value, FunctionType) and _has_name(value):
        return b"function" + field(home_of(value.__module__).encode()) + field(value.__qualname__.encode())
    try:
        return encode(value)
    except (FormlessError, RecursionError):
        return b"L" + os.urandom(16)
