"""What of a recipe is on the disk already, and how it is shown once it is whole. Blocking: called in threads."""

from __future__ import annotations

import contextlib
import os

from steering.appliance.fetch import hash_of, is_written
from steering.appliance.receipts import finish
from steering.appliance.recipe import File, Part, Recipe, parts_of
from steering.appliance.store import Key, Store


def missing_parts(store: Store, key: Key, recipe: Recipe) -> list[Part]:
    """Return the parts to fetch, in order: all that do not lie on the disk with the right hash.

    Files under `fill` without a receipt (a copy that was damaged, a disk that was loaded by hand) are checked; bad ones
    go back to `filling`, where their good parts are kept.
    """
    missing: list[Part] = []
    with contextlib.suppress(FileNotFoundError), store.inside("filling", *key, create=True):
        pass
    repairs = store.has("fill", key)
    for file in recipe.files:
        if repairs and is_good(store, key, recipe, file):
            continue
        if repairs:
            with contextlib.suppress(FileNotFoundError):
                store.move_file(key, file.path, "fill", "filling")
        missing += missing_of(store, key, recipe, file)
    return missing


def is_good(store: Store, key: Key, recipe: Recipe, file: File) -> bool:
    """Return whether a file under `fill` is the recipe's, by the hashes of its parts."""
    try:
        descriptor = store.open_file("fill", key, file.path)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_size == file.bytes and all(
            hash_of(descriptor, part.start, part.length) == part.sha256 for part in parts_of(recipe, file)
        )
    except OSError:  # the disk cannot read it
        return False
    finally:
        os.close(descriptor)


def missing_of(store: Store, key: Key, recipe: Recipe, file: File) -> list[Part]:
    """Return the parts of a file under `filling` that lack or are wrong; the file gets its size."""
    descriptor = store.open_file("filling", key, file.path, write=True)
    try:
        if os.fstat(descriptor).st_size != file.bytes:
            os.ftruncate(descriptor, file.bytes)
        return [
            part
            for part in parts_of(recipe, file)
            if not is_written(descriptor, part.start) or hash_of(descriptor, part.start, part.length) != part.sha256
        ]
    finally:
        os.close(descriptor)


def show(store: Store, key: Key, recipe: Recipe, served: str, title: str) -> None:
    """Show a recipe whose parts are all good: to other appliances, then as the title to players."""
    for file in recipe.files:
        with contextlib.suppress(FileNotFoundError):  # in a repair, good files never left `fill`
            descriptor = store.open_file("filling", key, file.path)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    finish(store, key, recipe)
    store.switch(served, title, key)
