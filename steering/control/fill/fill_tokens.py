"""Fill tokens: proof towards an appliance's fill port that control leased a recipe, as stock nginx checks it.

    /fill/video/sha256-6f0e…/seg-1.ts?md5=<code>&expires=1796000700

The code is the MD5, in base64url without padding, of `<expires>/fill/<service>/<recipe> <secret>`; so a token covers
all files of a recipe, on every appliance that has the secret. In nginx, with the service and the recipe from a location
that captures them:

    secure_link $arg_md5,$arg_expires;
    secure_link_md5 "$secure_link_expires/fill/$service/$recipe $fill_secret";
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

GRACE_S: Final = 300  # a file that is being fetched when its lease runs out goes on
URL: Final = "https://{host}/fill/{service}/{recipe}/{path}?{token}"  # as answers have it, for the appliance to fill in
SAFE: Final = "/-._~"


def token_for(secret: str, service: str, recipe: str, lease_ends_at: float) -> str:
    """Return the query of the URLs of a recipe's files, valid until a while after its lease ends (Unix time)."""
    expires = math.ceil(lease_ends_at) + GRACE_S
    message = f"{expires}/fill/{service}/{recipe} {secret}".encode()
    digest = hashlib.md5(message, usedforsecurity=False).digest()  # nginx has no other; the flag is for FIPS
    return f"md5={base64.urlsafe_b64encode(digest)[:22].decode()}&expires={expires}"


def fill_url(host: str, service: str, recipe: str, path: str, token: str, scheme: str = "https") -> str:
    """Return the URL of a file of a recipe on an appliance's fill port; `host` has the port."""
    return f"{scheme}://{host}/fill/{service}/{recipe}/{quote(path, safe=SAFE)}?{token}"


def origin_url(template: str, values: Mapping[str, str]) -> str:
    """Return the URL of a file at the origin: the template with `{service}`, `{title}`, `{recipe}` and `{path}`."""
    url = template
    for name in ("service", "title", "recipe", "path"):
        url = url.replace(f"{{{name}}}", f"\0{name}\0")  # a value may have braces
    for name, value in values.items():
        url = url.replace(f"\0{name}\0", quote(value, safe=SAFE if name == "path" else SAFE[1:]))
    return url
