"""One frozen `Settings`: defaults < `steering.toml` < `STEERING_*` in the environment."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from steering.errors import SettingsError
from steering.model.policy import RANKING_KEYS, RANKING_POLICIES

DEFAULT_FILE = "steering.toml"
# Read elsewhere: where the file of settings is, and the portable lookups instead of this processor's.
OTHER_VARIABLES = {"STEERING_CONFIG", "STEERING_PORTABLE"}

SECRETS = {"alarm_url"}  # their values are shown nowhere

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with its end, unix(7)

LENGTHS = re.compile(r"([0-9]{1,3})-([0-9]{1,3})", re.ASCII)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """Every setting, each with its meaning; `steering settings` prints them with the values in force."""

    model_config = SettingsConfigDict(env_prefix="STEERING_", frozen=True, extra="forbid")

    state: Path = pydantic.Field(Path("state"), description="the state folder, made with mode 0700 where absent")
    listen: Annotated[tuple[str, ...], NoDecode] = pydantic.Field(
        ("127.0.0.1:8080",),
        description="the playback doors, comma-separated: 127.0.0.1:8080, [::1]:8080, unix:/path",
    )
    control_listen: Annotated[tuple[str, ...], NoDecode] = pydantic.Field(
        ("127.0.0.1:8081",),
        description="the control doors, for holders of tokens; comma-separated, empty for none but control.sock",
    )
    workers: int = pydantic.Field(2, ge=1, le=256, description="playback worker processes")
    max_connections: int = pydantic.Field(
        10_000, ge=1, description="connections of one worker; those beyond get the service's fallback and are closed"
    )
    fast_path: bool = pydantic.Field(True, description="answer hot requests in the compiled fast_path, before FastAPI")
    trusted: Annotated[tuple[Network, ...], NoDecode] = pydantic.Field(
        (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        description="CIDRs of callers whose forwarded addresses, ip= and explain= are believed; comma-separated",
    )
    forwarded: Literal["x-forwarded-for", "forwarded"] = pydantic.Field(
        "x-forwarded-for", description="the header that trusted proxies append the client's address to"
    )
    proxy_protocol: bool = pydantic.Field(
        False, description="connections from trusted addresses begin with a PROXY protocol header, v1 or v2"
    )
    metrics_per_appliance: bool = pydantic.Field(
        False, description="count first targets by appliance in /metrics, not by cluster"
    )
    decision_log: Path | None = pydantic.Field(None, description="a folder for the decision log; none is off")
    decision_sample: int = pydantic.Field(
        1000, ge=0, le=4_000_000_000, description="record one request in so many of each worker; 0 none"
    )
    decision_titles: Annotated[tuple[str, ...], NoDecode] = pydantic.Field(
        (), max_length=100, description="titles whose every request is recorded; comma-separated"
    )
    decision_log_mb: int = pydantic.Field(
        64, ge=1, le=100_000, description="size of a file of the decision log; each worker keeps eight"
    )
    cmcd_sample: int = pydantic.Field(
        100, ge=0, le=1_000_000, description="read the CMCD of one steering request in so many that bring some; 0 never"
    )
    default_service: str = pydantic.Field("video", description="the service of a request that names none")
    ranking_policy: Annotated[tuple[str, ...], NoDecode] = pydantic.Field(
        RANKING_POLICIES["prefix_first"],
        description="ranking policy: prefix_first, local_first, or an order of " + ", ".join(RANKING_KEYS),
    )
    fallback_sites: int = pydantic.Field(
        16, ge=1, le=256, description="how many of the nearest sites that accept off-net clients end each ranking"
    )
    country_mmdb: Path | None = pydantic.Field(
        None, description="an MMDB of countries or cities to use instead of the shipped country map"
    )
    geofeeds: Annotated[tuple[Path, ...], NoDecode] = pydantic.Field(
        (), max_length=1000, description="geofeeds (RFC 8805), whose word counts before that map; comma-separated"
    )
    accept_v4: str = pydantic.Field("8-32", description="the IPv4 prefix lengths that are accepted from feeds")
    accept_v6: str = pydantic.Field("16-128", description="the IPv6 prefix lengths that are accepted from feeds")
    special_prefixes: Literal["refuse", "accept"] = pydantic.Field(
        "refuse", description="routes of special-purpose space, private or reserved for documentation: refuse or accept"
    )
    max_prefixes: int = pydantic.Field(
        100_000,
        ge=1,
        description="the most prefixes that a partner may announce in a feed; beyond, nothing is published",
    )
    asn: int = pydantic.Field(
        0, ge=0, le=4294967294, description="our AS number: communities <asn>:0, :80 and :120 are obeyed; 0 obeys none"
    )
    rpki: Path | None = pydantic.Field(
        None, description="an RPKI validator's payloads as JSON; routes that they make invalid are refused"
    )
    bgp: Path | None = pydantic.Field(
        None, description="a TOML file of live BGP sessions, [[session]] each; none is off"
    )
    bgp_hold_s: float = pydantic.Field(
        120.0, ge=0, le=86_400, description="how long the routes of a BGP session that went down are kept"
    )
    public_url: str = pydantic.Field(
        "",
        pattern=r"^(https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?)?$",
        max_length=500,
        description="where players reach a playback door, as https://steer.example; empty: playlists do not steer",
    )
    query_before_start: bool = pydantic.Field(
        False, description="DASH players ask for steering before they play, and wait for the answer"
    )
    steer_gain: float = pydantic.Field(
        0.25, ge=0, le=10, description="by how much better another appliance of its rank must be to move a player"
    )
    playlist_refresh_s: float = pydantic.Field(
        300.0, ge=10, le=86_400, description="how often the playlists of a service's origin are asked for"
    )
    watch: bool = pydantic.Field(False, description="publish again when a file or URL of the last publish changed")
    fetch_s: float = pydantic.Field(300.0, ge=1, le=86_400, description="how often a watched URL is asked")
    fetch_mb: int = pydantic.Field(1024, ge=1, le=4096, description="the most MiB that a URL may bring")
    traffic: Path | None = pydantic.Field(
        None, description="lines `prefix amount`: clients moved are counted by traffic instead of addresses"
    )
    guard_moved: float = pydantic.Field(
        0.25, ge=0, le=1, description="the share of a family's clients that a publish may move; 1 is no guard"
    )
    guard_shrink: float = pydantic.Field(
        0.2, ge=0, le=1, description="the share of a family's prefixes that a publish may lose; 1 is no guard"
    )
    guard_refused: float = pydantic.Field(
        0.1, ge=0, le=1, description="the share of the feeds' rows that may be refused; 1 is no guard"
    )
    guard_unknown: float = pydantic.Field(
        0.01, ge=0, le=1, description="the share of the rows that may name what the fleet has not; 1 is no guard"
    )
    guard_no_cluster: int = pydantic.Field(
        0, ge=0, description="how many zones a publish may leave without any cluster, where none is without one"
    )
    guard_from: int = pydantic.Field(
        1000, ge=0, description="the guards on shares apply from this number of prefixes, or rows, on"
    )
    check_s: float = pydantic.Field(
        10.0, ge=0, le=3600, description="how often an appliance with a health_url is asked for it; 0 never"
    )
    check_timeout_s: float = pydantic.Field(
        3.0, gt=0, le=60, description="how long an appliance may take to answer a check"
    )
    check_parallel: int = pydantic.Field(64, ge=1, le=1000, description="how many appliances are checked at once")
    alarm_url: pydantic.SecretStr | None = pydantic.Field(
        None, description="an http(s) URL that alarms are posted to as JSON; a secret, never shown"
    )
    alarm_timeout_s: float = pydantic.Field(10.0, gt=0, le=300, description="how long alarm_url may take to answer")
    alarm_keep_s: float = pydantic.Field(
        3600.0, ge=0, le=86_400, description="how long an alarm that alarm_url does not take is tried again"
    )
    health_source: Literal["auto", "assumed", "reported"] = pydantic.Field(
        "auto",
        description="appliances are believed at their capacity (assumed), by reports, or (auto) once they report",
    )
    tick_s: float = pydantic.Field(1.0, ge=0.1, le=10, description="how often weights follow health and load")
    report_s: float = pydantic.Field(10.0, ge=1, le=3600, description="how often appliances are to report")
    missed_reports: int = pydantic.Field(3, ge=1, le=100, description="an appliance is stale after so many missed ones")
    down_after: int = pydantic.Field(3, ge=1, le=100, description="observations in a row that make one unhealthy")
    up_after: int = pydantic.Field(2, ge=1, le=100, description="observations in a row that make one healthy again")
    high_headroom: float = pydantic.Field(
        0.2, gt=0, le=1, description="the headroom, as a share of capacity, below which clients are shed"
    )
    low_headroom: float = pydantic.Field(
        0.05, ge=0, lt=1, description="the headroom at which an appliance takes no new clients"
    )
    weight_step: float = pydantic.Field(
        0.1, gt=0, le=1, description="the share of its full weight that an appliance's may change in a tick"
    )
    slow_start_s: float = pydantic.Field(
        60.0, ge=0, le=3600, description="how long a recovered appliance takes from a tenth to its full weight"
    )
    load_excess: float = pydantic.Field(
        0.15,
        gt=0,
        le=10,
        description="above its share of its cluster's load by half of this one gets fewer clients, by four times none",
    )
    player_signal: float = pydantic.Field(
        0.0,
        ge=0,
        le=0.5,
        description="the most of its weight that an appliance loses by the word of players with session tags; 0 is off",
    )
    ejection_limit_cluster: float = pydantic.Field(
        0.5, ge=0, le=1, description="the share of a cluster that silence, checkers and monitors may take out"
    )
    ejection_limit_fleet: float = pydantic.Field(
        0.05, ge=0, le=1, description="the share of the fleet that they may take out in ejection_limit_s seconds"
    )
    ejection_limit_s: float = pydantic.Field(600.0, ge=1, le=86_400, description="the interval of ejection_limit_fleet")
    holdings_s: float = pydantic.Field(
        60.0, ge=1, le=3600, description="the least time between two publishes of what appliances hold"
    )
    max_titles: int = pydantic.Field(
        1_000_000,
        ge=1,
        le=4_000_000,
        description="the most titles and files that appliances may report, in all",
    )
    retain: int = pydantic.Field(8, ge=2, le=1000, description="how many published tables are kept")
    poll_s: float = pydantic.Field(
        0.1, gt=0, le=0.2, description="how often a worker looks for a newly published snapshot"
    )

    @pydantic.model_validator(mode="after")
    def check_marks(self) -> Settings:
        """Refuse a low mark that is not below the high one."""
        if self.low_headroom >= self.high_headroom:
            raise ValueError(f"low_headroom {self.low_headroom} is not below high_headroom {self.high_headroom}")
        return self

    @pydantic.field_validator("accept_v4", "accept_v6")
    @classmethod
    def check_lengths(cls, value: str, info: pydantic.ValidationInfo) -> str:
        """Refuse what is no range of prefix lengths."""
        most = 32 if info.field_name == "accept_v4" else 128
        if not is_length_range(value, most):
            raise ValueError(f"name the least and most prefix length, as 8-24, within 0 and {most}")
        return value

    @pydantic.field_validator("alarm_url")
    @classmethod
    def check_alarm_url(cls, value: pydantic.SecretStr | None) -> pydantic.SecretStr | None:
        """Refuse what nothing can be posted to."""
        if value:
            try:
                parts = urlsplit(value.get_secret_value())
                is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError("an http:// or https:// URL with a host")
        return value or None

    @pydantic.field_validator("decision_titles", "geofeeds", mode="before")
    @classmethod
    def split_texts(cls, value: Any) -> Any:
        """Take `a, b` as well as a list."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @pydantic.field_validator("trusted", mode="before")
    @classmethod
    def split_networks(cls, value: Any) -> Any:
        """Take `a, b` as well as a list; host bits set is an error."""
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(ipaddress.ip_network(part.strip() if isinstance(part, str) else part) for part in parts)

    @pydantic.field_validator("ranking_policy", mode="before")
    @classmethod
    def name_ranking(cls, value: Any) -> Any:
        """Take a preset's name or the keys themselves."""
        if isinstance(value, str):
            value = RANKING_POLICIES.get(value.strip()) or tuple(part.strip() for part in value.split(","))
        keys = tuple(value)
        unknown = [key for key in keys if key not in RANKING_KEYS]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is neither a preset ({', '.join(RANKING_POLICIES)}) nor one of {RANKING_KEYS}"
            )
        if not keys or len(set(keys)) != len(keys):
            raise ValueError("a ranking names at least one key, and each once")
        return keys

    @pydantic.field_validator("listen", mode="before")
    @classmethod
    def split_doors(cls, value: Any) -> Any:
        """Take `a, b` as well as a list; refuse what is no door, and none at all."""
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError("doors are text, or a list of texts")
        doors = tuple(part.strip() for part in parts)
        for door in doors:
            if unix_path(door) is None:
                split_address(door)
        if not doors or len(set(doors)) != len(doors):
            raise ValueError("name at least one door, and each once")
        return doors

    @pydantic.field_validator("control_listen", mode="before")
    @classmethod
    def split_control_doors(cls, value: Any) -> Any:
        """Take `a, b` as well as a list; refuse what is no address."""
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError("doors are text, or a list of texts")
        doors = tuple(part.strip() for part in parts if part.strip())
        for door in doors:
            split_address(door)
        if len(set(doors)) != len(doors):
            raise ValueError("name each door once")
        return doors

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put flags first, then the environment, then the file."""
        path = os.environ.get("STEERING_CONFIG", DEFAULT_FILE)
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path))


def is_length_range(value: Any, most: int) -> bool:
    """Tell whether a value is text as `8-24`: the least and most of prefix lengths."""
    found = LENGTHS.fullmatch(value) if isinstance(value, str) else None
    return found is not None and int(found[1]) <= int(found[2]) <= most


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:8080` or `[::1]:8080`; ValueError where it is neither."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    ipaddress.ip_address(host)
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{port!r} is no port")
    return host, int(port)


def unix_path(text: str) -> Path | None:
    """Return the path of `unix:/path`, None for what begins otherwise; ValueError where no socket can have it."""
    if not text.startswith("unix:"):
        return None
    path = Path(text.removeprefix("unix:"))
    if not path.is_absolute() or "\0" in text:
        raise ValueError(f"{text!r}: the path of a Unix socket begins with / and has no zero byte")
    if len(bytes(path)) > MAX_SOCKET_PATH:
        raise ValueError(f"{path}: {len(bytes(path))} bytes, a socket's path has at most {MAX_SOCKET_PATH}")
    return path


def read_settings(**flags: Any) -> Settings:
    """Return the settings in force; a flag that is None was not given.

    Raises SettingsError naming the setting, its value and the rule. An unknown STEERING_* variable is an error too.
    """
    known = {f"STEERING_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.startswith("STEERING_") and name not in known:
            raise SettingsError(f"{name}: no such setting", hint="`steering settings` lists them all")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1]) or "settings"
        # Of a rule about several settings, the input is all of them.
        value = "(not shown)" if name in SECRETS | {"settings"} else repr(first["input"])
        raise SettingsError(f"setting {name} = {value}: {first['msg']}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{os.environ.get('STEERING_CONFIG', DEFAULT_FILE)}: {error}") from None
