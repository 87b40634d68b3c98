"""What an appliance reports of its holdings of a service: everything, changes since the last report, or nothing."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1, max_length=63)]
Digest = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})-[0-9a-f]{16}$")]


class Full(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="full"):
    """Everything that an appliance holds of a service."""

    service: Name
    full: list[str]
    digest: Digest


class Delta(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="delta"):
    """The changes of an appliance's holdings of a service: from the digest `base` to `digest`.

    An id in both lists is held. Without ids, the delta checks that both sides have the same digest.
    """

    service: Name
    base: Digest
    digest: Digest
    add: list[str] = []
    remove: list[str] = []


class Unknown(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="unknown"):
    """An appliance does not report its holdings of a service: it is filled on demand."""

    service: Name


HoldingsRow = Full | Delta | Unknown
