"""Asking our own nginx for a title before it is reported: it runs as another user, and may lack leave to read it."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import httpx

from steering.appliance.recipe import Recipe

ASK_S: Final = 10.0


class NotServedError(Exception):
    """nginx refuses a title that is whole on the disk."""


async def check_served(http: httpx.AsyncClient, status_listen: str, address: str, recipe: Recipe) -> None:
    """Raise NotServedError if nginx answers other than 200 for the file that lies deepest in a title.

    `address` is the title's folder below `served/`. One file is enough: the agent makes all of them with the same
    owner and mode. If nginx does not answer at all, health reports that, and the title is served once nginx runs.
    """
    file = max(recipe.files, key=lambda file: file.path.count("/"))
    url = f"http://{status_listen}/served/{quote(f'{address}/{file.path}')}"
    try:
        answer = await http.head(url, headers={"Accept-Encoding": "identity"}, timeout=ASK_S)
    except httpx.HTTPError:
        return
    if answer.status_code != httpx.codes.OK:
        raise NotServedError(f"nginx answers {answer.status_code} for {url}; `steering-appliance --check` may tell why")
