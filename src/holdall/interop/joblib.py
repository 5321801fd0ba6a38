"""A backend of `joblib.Memory` over any store; importing this module registers it as "holdall"
(https://joblib.readthedocs.io/en/stable/memory.html)."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, cast

from holdall.errors import BlobNotFoundError, IntegrityError, InvalidArgumentError, InvalidKeyError
from holdall.interop.loading import load, open_store
from holdall.keys import check_key
from holdall.store import Store

__all__ = ["HoldallStoreBackend"]

_joblib = load("joblib")
_pickles = load("joblib.numpy_pickle")
_backends = load("joblib._store_backends")
_Base: Any = _backends.StoreBackendBase
_Mixin: Any = _backends.StoreBackendMixin
_Wrapper: Any = _pickles.NumpyArrayWrapper
_Reader: Any = _pickles.NumpyUnpickler
_OPTIONS = ("store", "compress")
_SMALL, _SMALL_FAR = 1 << 17, 1 << 24
"""The bytes of the largest result that is read by one call: on this machine, and over a network. Memory that
is filled once and given back costs more than the calls it saves."""
_BUFFER = 1 << 10
_HASH = re.compile("[a-f0-9]{32}")
_logger = logging.getLogger("holdall.interop.joblib")


class HoldallStoreBackend(_Base, _Mixin):
    """What `joblib.Memory` keeps its results in, as blobs of a store.

    The keys begin with the location that `Memory` is given. A result is seen whole or not at all, so that
    processes that compute the same one at the same time leave one. `reduce_size` deletes what was written
    the longest time ago, since stores don't know what was read. joblib's pickles are read without a
    signature: give it only a store that nobody else writes to. A store that may return damaged bytes goes
    under a `ChecksumStore`: joblib then warns, and computes the result again.

    `Memory` takes these `backend_options`:

    * `store`: the store, or a URI, a path or a name of `holdall.toml`.
    * `compress`: as for joblib's own backend.

    >>> import holdall, joblib, holdall.interop.joblib
    >>> store = holdall.MemoryStore()
    >>> memory = joblib.Memory("cache", backend="holdall", backend_options={"store": store}, verbose=0)
    >>> memory.cache(len)([1, 2]), memory.cache(len)([1, 2])
    (2, 2)
    >>> [key.rpartition("/")[2] for key in store]
    ['metadata.json', 'output.pkl', 'func_code.py']
    """

    location: str
    mmap_mode = None
    _lost: set[str]
    """The calls whose result couldn't be kept, until joblib notes them, which would make an older result look
    new."""
    _seen: tuple[str, int] = ("", 0)
    """The result that was looked for last, and its size, by which it is read in one way or another."""

    def configure(
        self, location: str, verbose: int = 1, backend_options: Mapping[str, Any] | None = None
    ) -> None:
        """Set the backend up, as `Memory` does.

        Raises:
            InvalidArgumentError: An option or the location can't be used.
        """
        options = dict(backend_options or {})
        # `Memory` adds its own argument of that name.
        if options.pop("mmap_mode", None) is not None:
            raise InvalidArgumentError("mmap_mode needs files: the results of this backend are blobs")
        unknown = ", ".join(map(repr, options.keys() - {*_OPTIONS}))
        if unknown or "store" not in options:
            known = ", ".join(map(repr, _OPTIONS))
            raise InvalidArgumentError(
                f"backend_options has {known}, not {unknown}; an option of the store belongs in its URI"
                if unknown
                else "the store is missing: give it as backend_options={'store': 'sqlite:///cache.db'}; the "
                f"location, {location!r:.80}, is what keys begin with"
            )
        self.location = _folder(location)
        self.store: Store = open_store(options["store"], "the option 'store'")
        self._lost = set()
        self.compress = options.get("compress", False)
        self.verbose = verbose

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Return whether a result is kept."""
        key = self._key(*call_id, "output.pkl")
        try:
            self._seen = key, self.store.info(key).size
        except BlobNotFoundError:
            return False
        return True

    def load_item(
        self,
        call_id: Sequence[str],
        verbose: int = 1,
        timestamp: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return a result that is kept; one that isn't is a `KeyError`."""
        if verbose > 1:  # joblib's own prints what it loads
            return _Mixin.load_item(self, call_id, verbose, timestamp, metadata)
        key = self._key(*call_id, "output.pkl")
        seen, size = self._seen
        if seen != key:
            size = self.store.info(key).size
        if size > (_SMALL if self.store._near else _SMALL_FAR):
            return self._load_large(key)
        # A blob is read whole, since layers check only whole ones.
        data = self.store[key]
        # joblib's unpickler, written in Python, differs from pickle's own only where there are its arrays. It
        # reads what is compressed, too.
        if data[:1] == b"\x80" and b"ArrayWrapper" not in data:
            return pickle.loads(data)
        return _pickles.load(io.BytesIO(data))

    def _load_large(self, key: str) -> Any:
        with self.store.open(key) as file:
            raw = getattr(file, "raw", None)
            if isinstance(raw, io.FileIO):
                # A file of this machine: a large buffer would take a copy of what is read.
                with io.BufferedReader(raw, _BUFFER) as buffered:
                    return _load(buffered)
            found = _load(file)
            # Damage may look like an early end, and is noticed at the real one.
            while file.read(_SMALL):
                pass
            return found

    def dump_item(self, call_id: Sequence[str], item: object, verbose: int = 1) -> None:
        """Keep a result. One that can't be kept is a warning, and nothing is written."""
        folder = self._key(*call_id)
        self._lost.discard(folder)
        try:
            file = _Result(self.store, f"{folder}/output.pkl")
            try:
                _pickles.dump(item, file, compress=self.compress)
                file.publish()
            finally:
                file.drop()
        except Exception as error:  # noqa: BLE001 - whatever a result raises when it is pickled
            self._lost.add(folder)
            message = f"the result isn't kept: {type(error).__name__}: {error}"
            warnings.warn(_backends.CacheWarning(message), stacklevel=2)

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Delete a result."""
        self.clear_location(self._key(*call_id))

    def get_metadata(self, call_id: Sequence[str]) -> Mapping[str, Any]:
        """Return what was noted of a call; it is read when it is first looked at."""
        return _Metadata(self.store, self._key(*call_id))

    def store_metadata(self, call_id: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Note a call. It isn't needed for a hit, so that a failure is only logged, as joblib does."""
        folder = self._key(*call_id)
        if folder in self._lost:
            self._lost.discard(folder)
            return
        try:
            self.store.put(f"{folder}/metadata.json", json.dumps(metadata).encode())
        except Exception as error:  # noqa: BLE001 - the repr of an argument may be anything
            _logger.info("%s: the metadata isn't kept: %s", "/".join(call_id), error)

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:
        """Note the source of a function."""
        if func_code is not None:
            self.store.put(self._key(*call_id, "func_code.py"), func_code.encode())

    def get_cached_func_code(self, call_id: Sequence[str]) -> str:
        """Return the source that the results of a function are of.

        Where it is damaged, nobody knows whether they are of the present one: they are deleted, with a
        warning.

        Raises:
            BlobNotFoundError: None is kept.
        """
        key = self._key(*call_id, "func_code.py")
        try:
            return self.store[key].decode()
        except (IntegrityError, UnicodeDecodeError) as error:
            self.clear_path(call_id)
            message = f"the source of a function is damaged, so its results are deleted: {error}"
            warnings.warn(_backends.CacheWarning(message), stacklevel=2)
            raise BlobNotFoundError(key=key) from error

    def clear_path(self, call_id: Sequence[str]) -> None:
        """Delete all results of a function."""
        self.clear_location(self._key(*call_id))

    def clear_location(self, location: str) -> None:
        """Delete what is in a folder."""
        self.store.delete_prefix(location.strip("/") + "/")

    def create_location(self, location: str) -> None:
        """Do nothing: folders are made of keys."""

    def get_items(self) -> list[Any]:
        """Return the results that are kept, with their sizes and when they were written."""
        sizes: dict[str, int] = {}
        written: dict[str, Any] = {}
        for info in self.store.list(self.location + "/"):
            folder, _, name = info.key.rpartition("/")
            if not _HASH.fullmatch(folder.rpartition("/")[2]):
                continue
            sizes[folder] = sizes.get(folder, 0) + info.size
            if name == "output.pkl" or folder not in written:
                # joblib compares it with the local time.
                written[folder] = info.modified.astimezone().replace(tzinfo=None)
        return [_backends.CacheItemInfo(folder, size, written[folder]) for folder, size in sizes.items()]

    # joblib's own methods call the next ones.

    def _key(self, *names: str) -> str:
        return f"{self.location}/{'/'.join(names)}"

    def _open_item(self, f: str, mode: str) -> IO[Any]:
        return self.store.open(f, mode)

    def _item_exists(self, location: str) -> bool:
        return self.store.exists(location) or (
            next(self.store.iterate_keys(location + "/"), None) is not None
        )

    object_exists = _item_exists

    def _move_item(self, src: str, dst: str) -> None:
        self.store.move(src, dst)


class _Array(_Wrapper):
    """What stands for an array in joblib's pickles. Its bytes are read to where they belong, and joblib's own
    reads them to another place first."""

    def read_array(self, unpickler: Any, *options: Any) -> Any:
        """Return the array whose bytes come next in the file of the unpickler."""
        kind: Any = self.dtype
        padding = self.safe_get_numpy_array_alignment_bytes()
        if kind.hasobject or not (kind.isnative and kind.itemsize and padding):
            return _Wrapper.read_array(self, unpickler, *options)
        file = unpickler.file_handle
        file.read(int.from_bytes(file.read(1), "little"))
        array = unpickler.np.empty(self.shape, kind, self.order)
        if file.readinto(array.reshape(-1, order=self.order).view("u1")) != array.nbytes:
            raise ValueError("the array is cut short")  # of this error joblib makes a KeyError
        return array


class _Unpickler(_Reader):
    def find_class(self, module: str, name: str) -> Any:
        found: Any = _Reader.find_class(self, module, name)
        return _Array if found is _Wrapper else found


def _load(file: Any) -> Any:
    """Return the result in a file."""
    if not isinstance(file, io.BufferedReader) or file.peek(1)[:1] != b"\x80":
        return _pickles.load(file)  # it is compressed, or a store has another kind of files
    return _Unpickler("", file, True).load()


class _Result(io.RawIOBase):
    """A result that is written: held while it is small, and otherwise streamed to the store."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._held = io.BytesIO()
        self._file: Any = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._file is not None:
            return self._file.write(data)
        count = self._held.write(data)
        if self._held.tell() > _SMALL:
            self._file = self._store.open(self._key, "wb")
            self._file.write(self._held.getbuffer())
        return count

    def tell(self) -> int:
        return (self._held if self._file is None else self._file).tell()

    def publish(self) -> None:
        if self._file is None:
            self._store.put(self._key, self._held.getbuffer())
        else:
            self._file.close()

    def drop(self) -> None:
        if self._file is not None:
            self._file.discard()


class _Metadata(Mapping[str, Any]):
    """What was noted of a call: a hit needs it only where results are checked by a callback."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._read: dict[str, Any] | None = None

    def _read_once(self) -> dict[str, Any]:
        if self._read is None:
            self._read = self._read_note() or self._infer_note()
        return self._read

    def _read_note(self) -> dict[str, Any]:
        with suppress(BlobNotFoundError, IntegrityError, ValueError):
            found = json.loads(self._store[f"{self._folder}/metadata.json"])
            return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        return {}

    def _infer_note(self) -> dict[str, Any]:
        # A process that is killed between the two leaves a result without a note. joblib's `expires_after`
        # needs its time.
        with suppress(BlobNotFoundError):
            written = self._store.info(f"{self._folder}/output.pkl").modified
            return {"duration": None, "input_args": {}, "time": written.timestamp()}
        return {}

    def __getitem__(self, name: str) -> Any:
        return self._read_once()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read_once())

    def __len__(self) -> int:
        return len(self._read_once())

    def __repr__(self) -> str:
        return repr(self._read_once())

    def __reduce__(self) -> Any:
        return dict, (self._read_once(),)


def _folder(location: str) -> str:
    """Return what the keys of a location begin with."""
    names = [name for name in os.fspath(location).split("/") if name not in ("", ".")]
    try:
        return check_key("/".join(names))
    except InvalidKeyError as error:
        raise InvalidArgumentError(
            f"the location of Memory is what keys begin with, such as 'cache', not {location!r:.80}: {error}"
        ) from error


_joblib.register_store_backend("holdall", HoldallStoreBackend)
