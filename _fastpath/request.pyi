"""The public shape of `request.pyx`."""

from collections.abc import Sequence
from typing import NamedTuple

from _fastpath.client import Trust

PARAMETERS: tuple[str, ...]
RULES: tuple[str, ...]
N_RULE: str
IP_RULE: str
TITLE_RULE: str
SESSION_RULE: str
FILES_RULE: str
DEVICE_RULE: str

class Client(NamedTuple):
    """The client's packed address, 4 or 16 bytes, and whether every hop on the way is trusted."""

    packed: bytes
    trusted: bool

class SteerRequest(NamedTuple):
    """The parameters of `/v1/steer`; `n` 0: the service's number, `family` 0: the client's own, `ip` None: absent."""

    title: str
    service: str
    session: str = ""
    n: int = 0
    family: int = 0
    ip: str | None = None
    explain: bool = False
    redirect: bool = False

class Refusal(Exception):  # noqa: N818 (the word of docs and design)
    """A request is refused: the parameter, its value, the rule that it breaks, and the status of the answer."""

    parameter: str
    value: str
    rule: str
    status: int
    def __init__(self, parameter: str, value: str, rule: str, status: int = 400) -> None: ...

def read_steer_query(query: bytes, default_service: str) -> SteerRequest:
    """Return the parameters of a raw query string. Raises Refusal naming the first that is wrong."""

def find_client(
    peer: str | None, headers: Sequence[tuple[bytes, bytes]], trust: Trust, header: str, ip: str | None = None
) -> Client:
    """Return the client of a request.

    `peer` is the socket's address, None on a Unix socket, which is trusted by its file permissions; one that is not an
    address is UNKNOWN and not trusted. `headers` are the request's, names in lower case; `header` is the one that is
    read. `ip` is the parameter of that name, as in `find_other`.
    """

def find_other(caller: Client, ip: str) -> Client:
    """Return the client that a caller asks for by `ip`. Raises Refusal: 403 unless every hop is trusted."""
