"""Stores by name: `holdall.toml`, a file that describes whole stacks of layers.

```toml
[stores.models]
uri = "s3://bucket/models"
prefix = "v1"
checksum = "sha256"
cache = { uri = "./cache", mode = "write-back", max_bytes = 1_000_000_000 }
encrypt = { key = "env:MODELS_KEY" }
compress = { codec = "zstd", level = 3 }
ttl = 3600
readonly = false
trace = true

[stores.safe]
replicas = { near = "models:", far = "sqlite:///${BACKUP:-backup.db}" }
options = { write = 1 }

[defaults]
uri = "models:"
serialization_mode = "json"

[stores.site]
routes = { "logs/" = "safe:logs", "" = "./site" }
```

`Store.from_uri("models:")` opens a stack, `"models:a/folder"` a folder of it, `"models:?readonly=1"` the
stack read-only; in the file a name stands wherever a URI may. Paths in it are relative to it. The file is
the one that `HOLDALL_CONFIG` names; or `holdall.toml` in the working directory or the nearest folder
above it; or `holdall/holdall.toml` in `$XDG_CONFIG_HOME` (`~/.config`).

A stack begins with `uri`, `replicas` (a `FanoutStore`) or `routes` (a `RoutedStore`), whose opener is given
`options`. The layers lie over it in this order; their order in the file doesn't matter:

1. `prefix`: only this folder of it.
2. `checksum`: over what the medium holds, so that every read from it is verified.
3. `cache`: over what is slow. It holds what the medium would, encrypted and compressed.
4. `encrypt`: what is below it sees no plain bytes, the cache and its disk included.
5. `compress`: before bytes are encrypted, since ciphertext doesn't shrink.
6. `ttl`: over the cache, so that no cache keeps a blob alive.
7. the layers of other packages, by name: a key is the name of an entry point of the group `holdall.layers`.
8. `readonly`: nothing below is changed through it; the cache still fills.
9. `trace`: the calls as they are made.

For another order, build one named store over another: a cache of plain bytes is `cache` over
`uri = "secret:"`.

`[defaults]` has what `get_store` takes where neither its call nor the environment says it: `uri`,
`serialization_mode`, `default_ttl`, `raise_on_nonexist`, and `backend_config`, a table of the URI's options.

`${NAME}` in any string is an environment variable, `${NAME:-text}` has a default, `$$` is a dollar. A string
made of variables may stand where a number or a boolean does. Errors never show the values of
variables.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from holdall.config.section import Section, hint_at
from holdall.config.stack import Building
from holdall.errors import InvalidArgumentError, StoreUnavailableError
from holdall.store import Store
from holdall.uri import NAME_RULE, is_store_name

_NAME = "holdall.toml"
_VARIABLE = "HOLDALL_CONFIG"


def load(path: str | os.PathLike[str] | None = None) -> Config:
    """Read a configuration: a file, or the one that is found.

    Args:
        path: The file; by default the one of this environment and working directory.

    Raises:
        InvalidArgumentError: The file doesn't exist, or isn't valid; the message names the file and the key.
            Or others could have written it: a file must belong to this user or root, and be writable by
            no other user; a file of another user is used only if `HOLDALL_CONFIG` names it.
        StoreUnavailableError: The file can't be read.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "holdall.toml")
    ...     _ = file.write_text('[stores.pad]\\nuri = "memory://"\\nprefix = "v1"')
    ...     load(file).open("pad")
    PrefixStore(MemoryStore(), prefix='v1/')
    """
    import tomllib

    path = find() if path is None else path
    if path is None:
        raise InvalidArgumentError(nowhere())
    path = os.path.abspath(path)
    named = bool(os.environ.get(_VARIABLE)) and path == find()
    source = f", which {_VARIABLE} names," if named else ""
    try:
        with open(path, "rb") as file:
            _check_owner(path, os.fstat(file.fileno()), named)
            parsed = tomllib.load(file)
    except FileNotFoundError:
        raise InvalidArgumentError(f"{path}{source} doesn't exist; check the path") from None
    except OSError as error:
        raise StoreUnavailableError(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path} isn't valid TOML: {error}") from error
    return Config(path, parsed)


def _check_owner(path: str, found: os.stat_result, named: bool) -> None:
    """Refuse a file that another user could have written: that user would choose where the blobs and the
    environment variables of this one go."""
    # A group that has the number of the owner has no other member.
    others = stat.S_IWOTH if found.st_gid == found.st_uid else stat.S_IWOTH | stat.S_IWGRP
    if found.st_mode & others:
        raise InvalidArgumentError(
            f"{path} can be written by other users, so it isn't used; check it, then run: chmod go-w {path}"
        )
    if not named and found.st_uid not in (os.geteuid(), 0):
        raise InvalidArgumentError(
            f"{path} belongs to another user (uid {found.st_uid}), so it isn't used; if you trust it, set "
            f"{_VARIABLE}={path}"
        )


def find() -> str | None:
    """Return the path of the configuration in use, or None."""
    given = os.environ.get(_VARIABLE)
    if given:
        return os.path.abspath(os.path.expanduser(given))
    for path in _places():
        if os.path.isfile(path):
            return path
    return None


def nowhere() -> str:
    """Return a message that no configuration was found, and where it was looked for."""
    return (
        f"there is no {_NAME} in the working directory or above it, no {_of_the_user()}, "
        f"and {_VARIABLE} isn't set"
    )


def _places() -> Iterator[str]:
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = ""
    while folder:
        yield os.path.join(folder, _NAME)
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    yield _of_the_user()


def _of_the_user() -> str:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "holdall", _NAME)


class Config:
    """The stores that a file names; `load` reads one.

    Args:
        path: The file: paths in it are relative to its folder, and errors name it.
        tables: Its contents.

    Raises:
        InvalidArgumentError: It holds other tables than `stores` and `defaults`.
    """

    def __init__(self, path: str, tables: Mapping[str, object]) -> None:
        self.path = path
        top = Section(path, (), tables, [])
        top.check_names(("stores", "defaults"))
        self._top = top
        self._stores: Mapping[str, object] = top.table("stores") if "stores" in tables else {}
        for name in self._stores:
            if not is_store_name(name):
                raise top.fault(f"the name of a store {NAME_RULE}", "stores", name)

    def __repr__(self) -> str:
        return f"Config({self.path!r}, stores={self.names()})"

    def names(self) -> list[str]:
        """Return the names of the stores that can be opened, sorted."""
        return sorted(self._stores)

    def defaults(self) -> Section | None:
        """Return the table of the defaults of `get_store`, if there is one."""
        return self._top.section("defaults") if "defaults" in self._top else None

    def open(self, name: str) -> Store:
        """Open a store with all its layers; closing it closes everything that was opened for it.

        Raises:
            InvalidArgumentError: The file lacks the store, or its table, or that of a store below it, isn't
                valid; the message names the file and the key.
        """
        return Building(self).stack(name)

    def __contains__(self, name: object) -> bool:
        return name in self._stores

    def offer(self, name: str) -> str:
        """Return which stores the file names, for the error of a name that it lacks."""
        if not self._stores:
            return f"{self.path} names no store"
        return f"{self.path} names {', '.join(self.names())}{hint_at(name, self._stores)}"

    def section(self, name: str, filled: list[str]) -> Section:
        """Return the table of one store; `filled` gathers the values of variables."""
        return Section(self.path, ("stores",), self._stores, filled).section(name)
