"""Keys to sign URLs with: made, listed and retired by control. They are in the file `keys` of the state folder.

A key is changed without a URL that fails: make a new one, put it on the appliances beside the old one, name it first in
the service, and when the last token of the old one has expired, take it out of the service, retire it here, and take it
off the appliances.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from steering.control.records.audit import Entry
from steering.control.records.rows import Rows
from steering.control.services.concern import Concern
from steering.errors import RequestError
from steering.model.fields import ID, ID_RULE
from steering.model.service import Service
from steering.state.keys import SECRET, Key, read_keys, write_keys

MAX_KEYS: Final = 100
# What a map of nginx takes for a parameter of its own: such an id would break the file of secrets, and nginx prints it.
NGINX_WORDS: Final = ("default", "hostnames", "include", "volatile")
NGINX_LENGTH: Final = 46  # a longer name does not fit a map_hash_bucket_size of 64, and then nginx does not start
SECRET_RULE: Final = "32 to 128 letters, digits and ._~+/=-"  # noqa: S105 (the rule for one)


class Keys(Concern):
    """`control.keys`."""

    def make(self, name: str, who: str, secret: str = "") -> dict[str, Any]:
        """Make a key to sign URLs with. A secret that is made here is in this report and in the `keys` file alone."""
        if not ID.fullmatch(name):
            raise RequestError.of_parameter("id", name, ID_RULE)
        if name in NGINX_WORDS:
            raise RequestError.of_parameter("id", name, f"another word than {', '.join(NGINX_WORDS)} of nginx's maps")
        if len(name) > NGINX_LENGTH:
            raise RequestError.of_parameter(
                "id", name, f"at most {NGINX_LENGTH} characters, as nginx's maps have room for"
            )
        if secret and not SECRET.fullmatch(secret):
            raise RequestError.of_parameter("secret", "", f"{SECRET_RULE} (what was given is not shown)")
        keys = read_keys(self.state)
        if name in keys:
            raise RequestError(
                f"key {name}: is there already", hint="make one of another id, and name it first", status=409
            )
        if len(keys) >= MAX_KEYS:
            raise RequestError(
                f"there are {len(keys)} keys, the most there may be", hint="steering key retire", status=409
            )
        key = Key(secret or secrets.token_urlsafe(32), self.clock())
        with self.records.transaction() as transaction:
            transaction.audit.add(Entry(key.made_at, who, "make key", f"key {name}", None, {"given": bool(secret)}))
            write_keys(self.state, {**keys, name: key})
        return {"id": name, "made_at": key.made_at} | ({} if secret else {"secret": key.secret})

    def list(self) -> Rows:
        """Return every key without its secret: when it was made, which services it signs for, and which name it."""
        keys, services = read_keys(self.state), self.fleet().services
        signers = {service.id: signer_of(service, keys) for service in services}
        return [
            {
                "id": name,
                "made_at": key.made_at,
                "signs": [service for service, signer in signers.items() if signer == name],
                "named_by": [service.id for service in services if name in service.keys],
            }
            for name, key in keys.items()
        ]

    def retire(self, name: str, who: str) -> dict[str, Any]:
        """Remove a key that no service names any more."""
        keys = read_keys(self.state)
        if name not in keys:
            raise RequestError(f"key {name[:64]!r}: there is none of this id", status=404)
        if users := [service.id for service in self.fleet().services if name in service.keys]:
            raise RequestError(
                f"key {name}: services {', '.join(users[:5])} name it",
                hint="name another key first in them, wait for token_ttl_s, take this one out",
                status=409,
            )
        made_at = keys.pop(name).made_at
        with self.records.transaction() as transaction:
            transaction.audit.add(Entry(self.clock(), who, "retire key", f"key {name}", {"made_at": made_at}))
            write_keys(self.state, keys)
        return {"id": name, "made_at": made_at}


def signer_of(service: Service, keys: Mapping[str, Key]) -> str | None:
    """Return the key that signs for a service: the first that it names and that is there."""
    return next((name for name in service.keys if name in keys), None) if service.token else None


def warnings_of(keys: Mapping[str, Key], services: Sequence[Service]) -> list[str]:
    """Return what an operator should mend: services whose keys are missing."""
    warnings = []
    for service in services:
        missing = [name for name in service.keys if name not in keys]
        if service.token and signer_of(service, keys) is None:
            warnings.append(
                f"service {service.id}: has none of its keys {', '.join(service.keys)}, and answers with its fallback"
                " alone: steering key make"
            )
        elif missing:
            warnings.append(f"service {service.id}: key {', '.join(missing)} is not there: steering key make")
    return warnings
