"""Receipts: which recipes stand whole on the disk, and when their bytes were last hashed.

A receipt is good while every file has the recipe's size and the receipt's time of change. So the agent knows at its
start what it holds without hashing the disk; `scrub.py` does that in its own time.
"""

from __future__ import annotations

import contextlib
import os
import time

import msgspec
from msgspec import Struct

from steering.appliance.recipe import File, Recipe, RecipeError, read_recipe
from steering.appliance.store import Key, Store, sync_folders


class Receipt(Struct, frozen=True):
    """When a recipe's files were hashed, and each file's time of change then, in the recipe's order."""

    checked_at: float
    changed_ns: list[int]


def write_receipt(store: Store, key: Key, recipe: Recipe, area: str = "fill") -> None:
    receipt = Receipt(time.time(), [changed_ns(store, area, key, file) for file in recipe.files])
    store.write("receipts", key, msgspec.json.encode(receipt))


def read_receipt(store: Store, key: Key) -> Receipt | None:
    """Return the receipt of a recipe whose files have not changed since; None if it is not good."""
    recipe = stored_recipe(store, key)
    if recipe is None:
        return None
    try:
        receipt = msgspec.json.decode(store.read("receipts", key), type=Receipt)
        changed = [changed_ns(store, "fill", key, file) for file in recipe.files]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return receipt if receipt.changed_ns == changed else None


def changed_ns(store: Store, area: str, key: Key, file: File) -> int:
    """Return a file's time of change. OSError if it is no plain file of the recipe's size."""
    descriptor = store.open_file(area, key, file.path)
    try:
        about = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if about.st_size != file.bytes:
        raise OSError(f"{file.path}: {about.st_size} bytes, the recipe says {file.bytes}")
    return about.st_mtime_ns


def stored_recipe(store: Store, key: Key) -> Recipe | None:
    """Return the recipe on the disk; None if it is not there, or not the one of this name."""
    try:
        return read_recipe(store.read("recipes", key), key[1])
    except (OSError, RecipeError):
        return None


def finish(store: Store, key: Key, recipe: Recipe) -> None:
    """Show a recipe to other appliances, all of whose files are whole, checked and fsynced: by one rename."""
    service, name = key
    if store.has("fill", key):  # a repair: the files that were damaged come back one by one
        for file in recipe.files:
            with contextlib.suppress(FileNotFoundError):
                store.move_file(key, file.path, "filling", "fill")
        write_receipt(store, key, recipe)
        store.discard("filling", key)
        return
    sync_folders(store.folder / "filling" / service / name)
    write_receipt(store, key, recipe, "filling")
    with store.inside("filling", service) as old, store.inside("fill", service, create=True) as new:
        os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
        os.fsync(new)
