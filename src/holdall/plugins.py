"""Plug-ins: what other packages bring by entry points; found and loaded when it is first needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdall.errors import (
    InvalidArgumentError,
    MissingDependencyError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

STORES: Final = "holdall.stores"
"""The entry point group of stores: a scheme, and the `Store` class or the function that opens its URIs."""
LAYERS: Final = "holdall.layers"
"""The group of layers: a key of a stack in `holdall.toml`, and the `Layer` class or what makes one."""
SERIALIZERS: Final = "holdall.serializers"
"""The group of serializers: a name, and a serializer or the class of one."""

_log = logging.getLogger("holdall")
_KINDS: Final = {STORES: "store", LAYERS: "layer", SERIALIZERS: "serializer"}
_found: dict[str, tuple[Plugin, ...]] = {}


class Plugin(NamedTuple):
    """One entry point of a package."""

    group: str
    name: str
    value: str
    """Where it is: `module:name`."""
    package: str
    """The name of the package, as pip has it, and its version."""

    @property
    def kind(self) -> str:
        """What it is: `store`, `layer` or `serializer`."""
        return _KINDS[self.group]

    def __str__(self) -> str:
        return f"the {self.kind} {self.name!r} of the package {self.package} ({self.value})"

    def load(self) -> Any:
        """Import what the entry point names.

        Raises:
            MissingDependencyError: It imports a module that isn't installed.
            InvalidArgumentError: It can't be imported for another reason.
        """
        from importlib.metadata import EntryPoint

        module = self.value.partition(":")[0].strip()
        try:
            return EntryPoint(self.name, self.value, self.group).load()
        except StoreError:
            raise  # such as that of an extra of holdall
        except ImportError as error:
            name = error.name or ""
            if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{name}."):
                raise MissingDependencyError(
                    f"{self} imports the module {name!r}, which isn't installed; "
                    "pip check says which packages it lacks"
                ) from error
            raise self._fault(error) from error
        except (Exception, SystemExit) as error:  # another's package may raise anything, or be a program
            raise self._fault(error) from error

    def _fault(self, error: BaseException) -> InvalidArgumentError:
        message = f"{self} can't be loaded: {error!r}"
        if isinstance(error, (ImportError, AttributeError)):
            message += (
                f"; its entry point must have the form 'module:name' under [project.entry-points."
                f'"{self.group}"] in pyproject.toml, and a package that was changed is installed again'
            )
        return InvalidArgumentError(message)


def failure_of(what: str, error: Exception) -> StoreError:
    """Return the error for an exception of another package's code, whose text may hold a password."""
    kind = StoreUnavailableError if isinstance(error, OSError) else InvalidArgumentError
    return kind(f"{what} raised {type(error).__name__}")


def read_plugins(group: str, *, again: bool = False) -> tuple[Plugin, ...]:
    """Return the plug-ins of a group, by name; they are read once, or `again` because packages may have been
    installed since."""
    found = _found.get(group)
    if found is None or again:
        found = _found[group] = tuple(
            sorted(
                Plugin(
                    group,
                    entry.name.lower() if group == STORES else entry.name,
                    entry.value,
                    "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}",
                )
                for entry in _entry_points(group)
            )
        )
    return found


def _entry_points(group: str) -> Iterable[EntryPoint]:
    from importlib.metadata import distributions, entry_points

    try:
        return entry_points(group=group)
    except Exception:  # noqa: BLE001 - of one package, whose file isn't valid; the others are read without it
        found: dict[str, list[EntryPoint]] = {}
        for each in distributions():
            try:
                if each.name not in found:  # the first on the path is the one that is imported
                    found[each.name] = list(each.entry_points.select(group=group))
            except Exception as error:  # noqa: BLE001
                _log.warning("the entry points of %s can't be read: %r", each.name, error)
        return [entry for entries in found.values() for entry in entries]


def plugin_names(group: str) -> list[str]:
    """Return the names of the plug-ins of a group."""
    return sorted({each.name for each in read_plugins(group)})


def find_plugin(group: str, name: str) -> Plugin | None:
    """Return the plug-in with a name; None if no package brings one.

    Raises:
        InvalidArgumentError: Several packages bring it.
    """
    found = [each for each in read_plugins(group) if each.name == name]
    found = found or [each for each in read_plugins(group, again=True) if each.name == name]
    if len(found) > 1:
        packages = " and ".join(each.package for each in found)
        raise InvalidArgumentError(
            f"{packages} each bring a {found[0].kind} {name!r}; uninstall all but one of these packages"
        )
    return found[0] if found else None
