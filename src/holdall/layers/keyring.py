"""The keys that an encrypted store was given: which encrypts, which read, and what may be shown of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from holdall.errors import InvalidArgumentError, UnsupportedOperation
from holdall.keys import is_utf8
from holdall.layers.keynames import KeyNames
from holdall.layers.sealing import Binding, BlobKey
from holdall.masterkeys import (
    Hidden,
    Key,
    are_references,
    check_key_names,
    current_name,
    hidden,
    hidden_keys,
    master_key,
    shown,
)


class KeyRing:
    """The keys of an `EncryptedStore`, by their names and fingerprints; it is given what the store is."""

    def __init__(
        self,
        key: Key | Mapping[str, Key],
        current: object,
        names: Key | None,
        context: object,
        retired: object,
        fingerprint: str | None,
    ) -> None:
        many = isinstance(key, Mapping)
        keys: Any = hidden_keys(key) if many else {"default": hidden(key)}
        # So that no traceback from here on shows a key, where it was given as bytes or in a wrong place.
        key = cast(Any, Hidden(None))
        names = cast(Any, None if names is None else hidden(names))
        if current is not None and not (isinstance(current, str) and current in keys):
            current = Hidden(current)
        check_key_names(keys)
        self._given: str | Hidden | dict[str, str | Hidden] = keys if many else keys["default"]
        self._names_given = cast("str | Hidden | None", names)
        self._choose(keys, current)
        self._retire(keys, retired)
        self.context = _check_context(context)
        self._fingerprint = fingerprint
        self._open(keys)

    def _choose(self, keys: dict[str, str | Hidden], current: object) -> None:
        self._current_name = current_name(keys, current)
        self._asked = cast("str | None", current)
        if self._names_given is not None and "names" in keys:
            raise InvalidArgumentError("with names= no other key can be called 'names'; rename that one")

    def _retire(self, keys: dict[str, str | Hidden], retired: object) -> None:
        if isinstance(retired, str) or not isinstance(retired, Collection):
            raise InvalidArgumentError("retired must be a list of names of keys")
        self._retired = tuple(cast("Collection[str]", retired))
        others = [name for name in keys if name != self._current_name]
        if not set(self._retired) <= set(others):
            known = ", ".join(map(repr, others)) or "there are none"
            raise InvalidArgumentError(f"retired must name keys other than the current one: {known}")

    def _open(self, keys: dict[str, str | Hidden]) -> None:
        binding = Binding(self.context)
        self.all: dict[bytes, BlobKey] = {}
        """Every key by its fingerprint, those too that only `rotate` reads with."""
        for name, given in keys.items():
            expected = self._fingerprint if name == self._current_name else None
            opened = BlobKey(master_key(name, given, "blobs", expected), binding)
            twin = self.all.setdefault(opened.id, opened)
            if twin is not opened:
                raise InvalidArgumentError(
                    f"{twin.name!r} and {name!r} are the same key; leave one of them out"
                )
            if name == self._current_name:
                self.current = opened
        self.reading = {id_: key for id_, key in self.all.items() if key.name not in self._retired}
        """Those that ordinary calls read with."""
        self.names: KeyNames | None = None
        if self._names_given is not None:
            self.names = KeyNames(master_key("names", self._names_given, "names"), binding)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each key by its name."""
        found = {key.name: key.id.hex() for key in self.all.values()}
        return found if self.names is None else {**found, "names": self.names.id.hex()}

    def settings(self) -> dict[str, object]:
        """Return the arguments that make this again."""
        keys = list(self._given.values()) if isinstance(self._given, dict) else [self._given]
        if not are_references(*keys, self._names_given):
            raise UnsupportedOperation(
                "an EncryptedStore that holds keys as bytes isn't pickled, since they would go with it; "
                "give references, 'env:NAME' or 'file:PATH', instead"
            )
        return {
            "key": self._given,
            "current": self._asked,
            "names": self._names_given,
            "context": self.context,
            "retired": self._retired,
            "fingerprint": self._fingerprint,
        }

    def __repr__(self) -> str:
        if "names" not in vars(self):
            return "KeyRing(...)"  # the constructor raised
        if isinstance(self._given, dict):
            text = ", ".join([f"{name!r}: {shown(value)}" for name, value in self._given.items()])
            text = f"key={{{text}}}"
        else:
            text = f"key={shown(self._given)}"
        if self._asked is not None:
            text += f", current={self._asked!r}"
        if self._names_given is not None:
            text += f", names={shown(self._names_given)}"
        more = {"context": self.context, "retired": self._retired, "fingerprint": self._fingerprint}
        return text + "".join([f", {name}={value!r}" for name, value in more.items() if value])


def _check_context(context: object) -> str:
    if isinstance(context, str) and is_utf8(context):
        return context
    raise InvalidArgumentError("context must be a str that names this store, such as 'prod/tenant-7'")
