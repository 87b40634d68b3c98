"""One frozen `Settings`: defaults < `steering.toml` < `STEERING_*` in the environment."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import itertools
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from steering.errors import SettingsError, syntax_fault
from steering.model.fields import is_length_range
from steering.model.policy import RANKING_KEYS, RANKING_POLICIES
from steering.model.prefix import unmapped

DEFAULT_FILE = "steering.toml"
# Read elsewhere: the path of the settings file, and whether to use the portable lookups.
OTHER_VARIABLES = {"STEERING_CONFIG", "STEERING_PORTABLE"}

APPLIANCE_PREFIX = "STEERING_APPLIANCE_"  # settings of the agent, which may run on the same machine

SECRETS = {"alarm_url"}  # values that are never shown

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with its end, unix(7)

PUBLIC_URL = r"^(https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?)?$"
TLS = "tls:"  # the beginning of a listener that speaks TLS

Networks = Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode]
Paths = Annotated[tuple[Path, ...], NoDecode]
Texts = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting, with its meaning below it; `steering settings` prints them with the values in force."""

    model_config = SettingsConfigDict(env_prefix="STEERING_", frozen=True, extra="forbid")

    state: Path = Path("state")
    """the state folder; it is made with mode 0700 if it does not exist"""
    listen: Texts = ("127.0.0.1:8080",)
    """the playback listeners, comma-separated: 127.0.0.1:8080, [::1]:8080, tls:0.0.0.0:8443, unix:/path"""
    control_listen: Texts = ("127.0.0.1:8081",)
    """the control listeners, for callers with tokens; comma-separated, empty for control.sock only"""
    tls_cert: Paths = Field((), max_length=100)
    """PEM files of certificate chains for listeners that begin with tls:, comma-separated; a client gets the one for
    the name that it asks for, else the first"""
    tls_key: Paths = Field((), max_length=100)
    """the PEM files of their private keys, in the same order"""
    control_client_ca: Path | None = None
    """a PEM file of CAs: on TLS control listeners, a client certificate of theirs for an appliance's id stands in for
    the appliance's token"""
    workers: int = Field(2, ge=1, le=256)
    """playback worker processes"""
    max_connections: int = Field(10_000, ge=1)
    """the most connections of one worker; a further one gets the service's fallback and is closed"""
    fast_path: bool = True
    """answer requests on the compiled fast path where possible, before FastAPI"""
    trusted: Networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    """networks whose forwarded addresses, ip= and explain= are trusted; comma-separated CIDRs"""
    forwarded: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """the header to which trusted proxies append the client's address"""
    proxy_protocol: bool = False
    """expect a PROXY protocol header (v1 or v2) on connections from trusted addresses"""
    metrics_per_appliance: bool = False
    """count first targets in /metrics by appliance instead of by cluster"""
    decision_log: Path | None = None
    """the folder of the decision log; without one, there is no log"""
    decision_sample: int = Field(1000, ge=0, le=4_000_000_000)
    """each worker records one request in this many; 0 records none"""
    decision_titles: Texts = Field((), max_length=100)
    """titles of which every request is recorded; comma-separated"""
    decision_log_mb: int = Field(64, ge=1, le=100_000)
    """the size of a decision log file in MiB; each worker keeps eight files"""
    cmcd_sample: int = Field(100, ge=0, le=1_000_000)
    """read the CMCD of one steering request in this many that contain it; 0 reads none"""
    default_service: str = "video"
    """the service of a request that names none"""
    ranking_policy: Texts = RANKING_POLICIES["prefix_first"]
    """prefix_first, local_first, or the keys in another order: prefix, as_path, origin, med, class, distance"""
    fallback_sites: int = Field(16, ge=1, le=256)
    """how many nearby sites that accept off-net clients are added at the end of each ranking"""
    fallback_max_km: float | None = Field(None, gt=0)
    """how far away those sites may be from the client's assumed location; none for any distance"""
    price_embedded: float = Field(1.0, gt=0, le=1e6)
    """what a byte from an embedded cluster costs, beside the other prices; prices decide when clusters lack room"""
    price_private: float = Field(2.0, gt=0, le=1e6)
    """the same from a cluster behind private peering"""
    price_exchange: float = Field(3.0, gt=0, le=1e6)
    """the same from a cluster at an exchange"""
    price_transit: float = Field(6.0, gt=0, le=1e6)
    """the same over transit, and from a cluster without a route to the client"""
    price_1000_km: float = Field(0.4, ge=0, le=1e6)
    """what 1000 km of distance add to that"""
    price_fallback: float = Field(12.0, gt=0, le=1e6)
    """what a byte from a service's fallback costs; new viewers get it where every cluster would cost more"""
    country_mmdb: Path | None = None
    """an MMDB file of countries or cities, used instead of the shipped country map"""
    geofeeds: Annotated[tuple[Path, ...], NoDecode] = Field((), max_length=1000)
    """geofeed files (RFC 8805), which take precedence over that map; comma-separated"""
    accept_v4: str = "8-32"
    """the IPv4 prefix lengths accepted from feeds"""
    accept_v6: str = "16-128"
    """the IPv6 prefix lengths accepted from feeds"""
    special_prefixes: Literal["refuse", "accept"] = "refuse"
    """refuse or accept routes of special-purpose space (private, documentation)"""
    max_prefixes: int = Field(100_000, ge=1)
    """the most prefixes that a partner may announce in a feed; with more, nothing is published"""
    asn: int = Field(0, ge=0, le=4294967294)
    """our AS number: the communities <asn>:0, :1, :80 and :120 are obeyed; 0 obeys none"""
    rpki: Path | None = None
    """the JSON output of an RPKI validator; routes that are invalid by it are refused"""
    bgp: Path | None = None
    """a TOML file of live BGP sessions, one [[session]] each"""
    bgp_hold_s: float = Field(120.0, ge=0, le=86_400)
    """how many seconds to keep the routes of a BGP session that went down"""
    public_url: str = Field("", pattern=PUBLIC_URL, max_length=500)
    """the URL where players reach playback, as https://steer.example; empty: playlists do not steer"""
    query_before_start: bool = False
    """tell DASH players to ask for steering before they start to play"""
    steer_gain: float = Field(0.25, ge=0, le=10)
    """how much better another appliance of the same rank must be to move a player"""
    playlist_refresh_s: float = Field(300.0, ge=10, le=86_400)
    """seconds between two fetches of a playlist from a service's origin"""
    feed_sources: Texts = Field((), max_length=100)
    """the folders and beginnings of URLs (ending with /) of feeds that a token may name; comma-separated"""
    watch: bool = False
    """publish again when a file or URL of the last publish changes"""
    fetch_s: float = Field(300.0, ge=1, le=86_400)
    """seconds between two fetches of a watched URL"""
    fetch_mb: int = Field(1024, ge=1, le=4096)
    """the most MiB to fetch from a URL"""
    traffic: Path | None = None
    """a file of lines `prefix amount`: count moved clients by traffic instead of by addresses"""
    guard_moved: float = Field(0.25, ge=0, le=1)
    """the largest share of an IP version's clients that a publish may move; 1 turns the guard off"""
    guard_shrink: float = Field(0.2, ge=0, le=1)
    """the largest share of an IP version's prefixes that a publish may lose; 1 turns the guard off"""
    guard_refused: float = Field(0.1, ge=0, le=1)
    """the largest share of the feeds' rows that may be refused; 1 turns the guard off"""
    guard_unknown: float = Field(0.01, ge=0, le=1)
    """the largest share of rows that may name clusters the fleet does not have; 1 turns the guard off"""
    guard_no_cluster: int = Field(0, ge=0)
    """how many zones a publish may leave without a cluster"""
    fill_cost_nearest: float = Field(0.0, ge=0, le=1)
    """what a byte costs from the nearest cluster of the viewer's partner; from outside it costs 1"""
    fill_cost_sibling: float = Field(0.3, ge=0, le=1)
    """the same from another cluster of the partner"""
    fill_cost_exchange: float = Field(0.6, ge=0, le=1)
    """the same from an exchange"""
    fill_window: str = Field("", pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9])?$")
    """when appliances fill, in their site's time: 02:00-14:00; none is 02:00-14:00"""
    fill_timezone: str = ""
    """the IANA time zone of fill windows; none takes whole hours by each site's longitude"""
    fill_gbps: float = Field(1.2, gt=0, le=10_000)
    """Gbit/s at which an appliance fills in a window"""
    fill_tb: float = Field(6.5, gt=0, le=100_000)
    """10^12 bytes that an appliance fills in a window at most"""
    fill_urgent_gbps: float = Field(0.0, ge=0, le=10_000)
    """Gbit/s at which urgent titles fill outside of windows"""
    fill_share: float = Field(0.1, ge=0, le=1)
    """the share of an appliance's capacity with which it fills others"""
    fill_origin_gbps: float = Field(10.0, ge=0, le=100_000)
    """Gbit/s that origins give to fill, together"""
    fill_origin_copies: int = Field(2, ge=1, le=1000)
    """how many copies of one title leave the origin at a time"""
    fill_s: int = Field(300, ge=1, le=86_400)
    """how often an appliance asks for its fill manifest, in seconds"""
    fill_port: int = Field(8443, ge=1, le=65_535)
    """the port at which appliances give titles to each other"""
    fill_tls: bool = True
    """appliances give titles to each other over TLS"""
    remove_after_s: int = Field(14_400, ge=0, le=30 * 86_400)
    """how long a removed title stays on disk after players are no longer sent to it, in seconds"""
    guard_fill: float = Field(0.1, ge=0, le=1)
    """the largest share of all disks that a fill plan may replace; 1 turns the guard off"""
    guard_offload: float = Field(0.01, ge=0, le=1)
    """the most that a fill plan's offload may be below that of the plan before; 1 turns the guard off"""
    guard_plays: float = Field(0.5, ge=0, le=1)
    """the largest share by which the plays of a forecast may fall; 1 turns the guard off"""
    guard_from: int = Field(1000, ge=0)
    """the guards on shares apply to at least this many prefixes or rows"""
    check_s: float = Field(10.0, ge=0, le=3600)
    """seconds between two checks of an appliance that has a health_url; 0 turns checks off"""
    check_timeout_s: float = Field(3.0, gt=0, le=60)
    """how many seconds an appliance may take to answer a check"""
    check_parallel: int = Field(64, ge=1, le=1000)
    """how many appliances are checked at once"""
    alarm_url: pydantic.SecretStr | None = None
    """the http(s) URL to which alarms are posted as JSON; a secret, never shown"""
    alarm_timeout_s: float = Field(10.0, gt=0, le=300)
    """how many seconds alarm_url may take to answer"""
    alarm_keep_s: float = Field(3600.0, ge=0, le=86_400)
    """for how many seconds a failed post of an alarm is tried again"""
    health_source: Literal["auto", "assumed", "reported"] = "auto"
    """assumed (appliances are healthy), reported (by their reports), auto (reported once they report)"""
    tick_s: float = Field(1.0, ge=0.1, le=10)
    """seconds between two updates of weights by health and load"""
    report_s: float = Field(10.0, ge=1, le=3600)
    """seconds between two reports of an appliance"""
    missed_reports: int = Field(3, ge=1, le=100)
    """an appliance is stale after this many missed reports"""
    down_after: int = Field(3, ge=1, le=100)
    """failed observations in a row that make an appliance unhealthy"""
    up_after: int = Field(2, ge=1, le=100)
    """good observations in a row that make an appliance healthy again"""
    high_headroom: float = Field(0.2, gt=0, le=1)
    """the headroom, as a share of capacity, below which an appliance gets fewer clients"""
    pressure_headroom: float = Field(0.1, gt=0, le=1)
    """the headroom of a cluster below which its price rises; at low_headroom it is as high as that of the fallback"""
    low_headroom: float = Field(0.01, ge=0, lt=1)
    """the headroom at which an appliance gets no new clients"""
    weight_step: float = Field(0.1, gt=0, le=1)
    """how much an appliance's weight may change in a tick, as a share of its full weight"""
    slow_start_s: float = Field(60.0, ge=0, le=3600)
    """how many seconds a recovered appliance takes from a tenth to its full weight"""
    return_s: float = Field(600.0, ge=0, le=86_400)
    """in how many seconds viewers come back to an appliance that was full, out or drained and has room again"""
    load_excess: float = Field(0.15, gt=0, le=10)
    """load above the share of the cluster: fewer clients from half of this, none from four times this"""
    player_signal: float = Field(0.0, ge=0, le=0.5)
    """the most of its weight that an appliance loses by attested reports of players; 0 turns this off"""
    ejection_limit_cluster: float = Field(0.5, ge=0, le=1)
    """the share of a cluster that may be ejected by silence, checks and monitors"""
    ejection_limit_partner: float = Field(0.5, ge=0, le=1)
    """the share of a partner's appliances that may be ejected in ejection_limit_s seconds; at least one may"""
    ejection_limit_fleet: float = Field(0.05, ge=0, le=1)
    """the share of the fleet that may be ejected in ejection_limit_s seconds"""
    ejection_limit_s: float = Field(600.0, ge=1, le=86_400)
    """the seconds over which ejection_limit_partner and ejection_limit_fleet apply"""
    holdings_s: float = Field(60.0, ge=1, le=3600)
    """the least seconds between two publishes of holdings"""
    max_titles: int = Field(1_000_000, ge=1, le=4_000_000)
    """the most titles and files that all appliances together may report"""
    max_titles_by_appliance: int = Field(250_000, ge=1, le=4_000_000)
    """the most of max_titles that an appliance may report while no other reports them"""
    max_titles_by_partner: int = Field(400_000, ge=1, le=4_000_000)
    """the most of max_titles that a partner's appliances may report while no others report them"""
    retain: int = Field(8, ge=2, le=1000)
    """how many published tables to keep"""
    poll_s: float = Field(0.1, gt=0, le=0.2)
    """seconds between two looks of a worker for newly published files"""

    @property
    def stale_s(self) -> float:
        """How long an appliance may be silent."""
        return self.report_s * self.missed_reports

    @pydantic.model_validator(mode="after")
    def check_marks(self) -> Settings:
        for name in ("high_headroom", "pressure_headroom"):
            if self.low_headroom >= getattr(self, name):
                raise ValueError(f"low_headroom {self.low_headroom} is not below {name} {getattr(self, name)}")
        return self

    @pydantic.model_validator(mode="after")
    def check_tls(self) -> Settings:
        """Refuse TLS listeners without certificates, and settings of TLS that do not go together."""
        if len(self.tls_cert) != len(self.tls_key):
            raise ValueError(
                f"tls_cert names {len(self.tls_cert)} files and tls_key {len(self.tls_key)}: each certificate has a key"
            )
        secure = [listener for listener in (*self.listen, *self.control_listen) if is_tls(listener)]
        if secure and not self.tls_cert:
            raise ValueError(f"{secure[0]} needs a certificate: set tls_cert and tls_key")
        if self.control_client_ca and not any(map(is_tls, self.control_listen)):
            raise ValueError("control_client_ca is for TLS: begin a listener of control_listen with tls:")
        return self

    @pydantic.field_validator("accept_v4", "accept_v6")
    @classmethod
    def check_lengths(cls, value: str, info: pydantic.ValidationInfo) -> str:
        most = 32 if info.field_name == "accept_v4" else 128
        if not is_length_range(value, most):
            raise ValueError(f"write the shortest and the longest prefix length, as 8-24, from 0 to {most}")
        return value

    @pydantic.field_validator("alarm_url")
    @classmethod
    def check_alarm_url(cls, value: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        """Refuse a value that is no http(s) URL with a host."""
        if value:
            try:
                parts = urlsplit(value.get_secret_value())
                is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError("an http:// or https:// URL with a host")
        return value or None

    @pydantic.field_validator("feed_sources")
    @classmethod
    def check_feed_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not (text.startswith("/") or (text.startswith(("http://", "https://")) and text.endswith("/"))):
                raise ValueError(f"{text!r} is neither an absolute folder nor the beginning of a URL that ends with /")
        return value

    @pydantic.field_validator("decision_titles", "geofeeds", "feed_sources", "tls_cert", "tls_key", mode="before")
    @classmethod
    def split_texts(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @pydantic.field_validator("trusted", mode="before")
    @classmethod
    def split_networks(cls, value: Any) -> Any:
        """Accept `a, b` as well as a list; a network with host bits set is an error. IPv4-mapped ones are IPv4.

        A NAT64 or 6to4 network stays: hops are compared before the IPv4 address is taken out of them.
        """
        parts = value.split(",") if isinstance(value, str) else value
        if zoned := [part for part in parts if "%" in str(part)]:
            raise ValueError(f"{zoned[0]!r}: a network has no zone id")
        return tuple(unmapped(ipaddress.ip_network(part.strip() if isinstance(part, str) else part)) for part in parts)

    @pydantic.field_validator("ranking_policy", mode="before")
    @classmethod
    def name_ranking(cls, value: Any) -> Any:
        """Accept the name of a preset, or the keys themselves."""
        if isinstance(value, str):
            value = RANKING_POLICIES.get(value.strip()) or tuple(part.strip() for part in value.split(","))
        keys = tuple(value)
        unknown = [key for key in keys if key not in RANKING_KEYS]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is neither a preset ({', '.join(RANKING_POLICIES)}) nor one of {tuple(RANKING_KEYS)}"
            )
        if not keys or len(set(keys)) != len(keys):
            raise ValueError("a ranking policy names at least one key, and each key once")
        return keys

    @pydantic.field_validator("listen", mode="before")
    @classmethod
    def split_listen(cls, value: Any) -> Any:
        """Accept `a, b` as well as a list; at least one listener, an address or a Unix socket each."""
        listeners = split_listeners(value)
        if not listeners:
            raise ValueError("name at least one listener")
        for listener in listeners:
            if unix_path(listener) is None:
                split_address(listener.removeprefix(TLS))
        return listeners

    @pydantic.field_validator("control_listen", mode="before")
    @classmethod
    def split_control_listen(cls, value: Any) -> Any:
        """Accept `a, b` as well as a list of addresses, or nothing."""
        listeners = () if value == "" else split_listeners(value)
        for listener in listeners:
            split_address(listener.removeprefix(TLS))
        return listeners

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get("STEERING_CONFIG", DEFAULT_FILE)
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path))


def split_listeners(value: Any) -> tuple[str, ...]:
    """Return the listeners of `a, b` or of a list; ValueError unless each is named once, as text."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("listeners are text, or a list of texts")
    listeners = tuple(part.strip() for part in parts)
    if len(set(listeners)) != len(listeners):
        raise ValueError("name each listener once")
    return listeners


def is_tls(listener: str) -> bool:
    """Return whether a listener of the settings speaks TLS."""
    return listener.startswith(TLS)


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:8080` or `[::1]:8080`; ValueError for other texts."""
    if text.startswith("unix:"):
        raise ValueError(f"{text!r}: TLS is for addresses, and control's Unix socket is control.sock")
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    ipaddress.ip_address(host)
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{port!r} is no port")
    return host, int(port)


def unix_path(text: str) -> Path | None:
    """Return the path of `unix:/path`, None for another listener; ValueError if no socket can have this path."""
    if not text.startswith("unix:"):
        return None
    path = Path(text.removeprefix("unix:"))
    if not path.is_absolute() or "\0" in text:
        raise ValueError(f"{text!r}: the path of a Unix socket begins with / and has no zero byte")
    if len(bytes(path)) > MAX_SOCKET_PATH:
        raise ValueError(f"{path}: {len(bytes(path))} bytes, a socket's path has at most {MAX_SOCKET_PATH}")
    return path


def meanings() -> dict[str, str]:
    """Return the meaning of each setting: the text below it, read when asked for: it takes 50 ms."""
    (settings,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(settings, ast.ClassDef)
    return {
        ast.unparse(field.target): ast.literal_eval(below.value)
        for field, below in itertools.pairwise(settings.body)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


def read_settings(**flags: Any) -> Settings:
    """Return the settings in force; a flag of None was not given.

    Raises SettingsError naming the setting, its value and the rule. An unknown STEERING_* variable is an error too.
    """
    known = {f"STEERING_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.startswith("STEERING_") and name not in known and not name.startswith(APPLIANCE_PREFIX):
            raise SettingsError(f"{name}: no such setting", hint="`steering settings` lists them all")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1]) or "settings"
        # A rule about several settings has all of them as its input.
        value = "(not shown)" if name in SECRETS | {"settings"} else repr(first["input"])
        raise SettingsError(f"setting {name} = {value}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        file = os.environ.get("STEERING_CONFIG", DEFAULT_FILE)
        raise SettingsError(f"{file}: {syntax_fault(error)}") from None
