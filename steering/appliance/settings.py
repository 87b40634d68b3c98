"""The settings of an appliance: flags > `STEERING_APPLIANCE_*` > the settings file > defaults."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Final

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

DEFAULT_FILE: Final = "/etc/steering/appliance.toml"
PREFIX: Final = "STEERING_APPLIANCE_"
FILE_VARIABLE: Final = f"{PREFIX}CONFIG"

UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 1 << 10 * power for power, letter in enumerate("kMGT", 1)
}
SIZE: Final = re.compile(r"(?P<rest>all but )?(?P<number>[0-9]{1,16}(?:\.[0-9]{1,6})?)(?P<unit>%|[kMGT]i?)?B?")
SIZE_RULE: Final = "a size such as 7.2T, 90%, `all but 200G` or `all but 2%`"
HTTP: Final = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
SERVED: Final = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$"  # a folder, and the first part of URLs
LISTEN: Final = r"^[0-9A-Za-z.:\[\]-]{1,80}( ssl)?( http2)?$"
TOGGLE: Final = r"^(auto|yes|no)$"

Texts = Annotated[tuple[str, ...], NoDecode]


class ApplianceSettings(BaseSettings):
    """Every setting, with its meaning below it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """the appliance's id in the fleet"""
    control: str = Field(pattern=HTTP)
    """the URL of control, as https://control.example:8081"""
    token_file: Path = Path("/etc/steering/appliance.token")
    """a file with the token `appliance:<id>`; only its owner may read it (mode 0600)"""
    ca_file: Path | None = None
    """authorities that signed the certificates of control and of other appliances; default: the system's"""
    folder: Path = Path("/srv/content")
    """the folder of all content; nginx only reads it"""
    disk_bytes: str = "all but 2%"
    """how much of the disk may be used: 7.2T, 90%, `all but 200G`, `all but 2%`"""
    capacity_gbps: float = Field(gt=0, le=1_000_000)
    """how much the appliance can deliver; its headroom is this less its throughput"""
    interfaces: Texts = ()
    """the network interfaces whose sent bytes are its throughput; default: all that are no loopback"""
    report_s: float = Field(10.0, ge=0.2, le=3600)
    """seconds between two reports; control has a setting of the same name"""
    ipv4: str = Field("auto", pattern=TOGGLE)
    """whether clients reach the appliance over IPv4; `auto`: there is a default route"""
    ipv6: str = Field("auto", pattern=TOGGLE)
    """whether clients reach the appliance over IPv6; `auto`: there is a default route"""
    hosts: Texts = ()
    """the host names of the appliance in URLs, for nginx; default: any"""
    services: Texts = ("video=v",)
    """the services that are filled, each with its folder of URLs: video=v serves https://{host}/v/{title}; default of
    another service: its own id"""
    serve_listen: str = Field("80", pattern=LISTEN)
    """where nginx serves players: 80, or `443 ssl http2`"""
    serve_key_file: Path | None = None
    """nginx map file of keys for signed URLs, a line each: `k1 "secret";`; default: URLs are not signed"""
    fill_listen: str = Field("8443 ssl", pattern=LISTEN)
    """where nginx serves other appliances"""
    fill_key_file: Path = Path("/etc/steering/fill.key")
    """nginx map file with the key of fill tokens: `default "secret";`"""
    fill_connections: int = Field(8, ge=1, le=10_000)
    """connections of other appliances that nginx serves at once"""
    fill_connection_mbps: int = Field(1000, ge=1, le=1_000_000)
    """megabits a second that nginx gives each of them"""
    certificate_file: Path | None = None
    """certificate of the listeners with `ssl`"""
    certificate_key_file: Path | None = None
    """its private key"""
    status_listen: str = Field("127.0.0.1:8089", pattern=r"^(127\.[0-9.]+|\[::1\]):[0-9]{1,5}$")
    """where nginx serves its counters and the canary to the agent"""
    demand_origin: str = Field("", pattern=r"^(https?://[^\s/?#@]+)?$")
    """fill on demand what the folder lacks, from this URL (nginx's proxy_cache); default: off"""
    demand_services: Texts = ()
    """services that are filled on demand only; their holdings are reported as unknown"""
    demand_gb: int = Field(100, ge=1, le=10_000_000)
    """gigabytes of the disk for what is filled on demand"""
    parallel: int = Field(4, ge=1, le=64)
    """titles that are filled at once"""
    stall_s: float = Field(30.0, ge=0.1, le=3600)
    """a source that sends nothing for so long is given up"""
    retry_s: float = Field(30.0, ge=0.1, le=3600)
    """pause after all sources of a title failed; doubled each time up to a quarter of an hour"""
    scrub_days: float = Field(30.0, gt=0, le=3650)
    """each copy is hashed again after so many days, at idle I/O priority"""
    nginx_program: Path = Path("/usr/sbin/nginx")
    """the nginx program, for --check"""

    @pydantic.field_validator("interfaces", "hosts", "services", "demand_services", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        """Accept `a, b` for a list."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @pydantic.field_validator("services")
    @classmethod
    def check_services(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        folders = [row.partition("=")[2] for row in value]
        if not all(re.match(SERVED, folder) for folder in folders) or len(set(folders)) != len(folders):
            raise ValueError("a list of service=folder, each folder once, a plain name")
        return value

    @pydantic.field_validator("disk_bytes")
    @classmethod
    def check_size(cls, value: str) -> str:
        if not SIZE.fullmatch(value):
            raise ValueError(SIZE_RULE)
        return value

    @pydantic.model_validator(mode="after")
    def check_certificate(self) -> ApplianceSettings:
        if " ssl" in self.serve_listen + self.fill_listen and not (self.certificate_file and self.certificate_key_file):
            raise ValueError("a listener with `ssl` needs certificate_file and certificate_key_file")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get(FILE_VARIABLE, DEFAULT_FILE)
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path))

    def served_as(self, service: str) -> str:
        """Return the folder of a service's URLs."""
        return dict(row.split("=", 1) for row in self.services).get(service, service)

    def filled_services(self) -> list[str]:
        """Return the services whose holdings are reported from the start, also while nothing of them is held."""
        return [
            service
            for service in (row.split("=", 1)[0] for row in self.services)
            if service not in self.demand_services
        ]


def usable_bytes(size: str, total: int) -> int:
    """Return how many bytes of a disk of `total` bytes a size allows."""
    match = SIZE.fullmatch(size)
    assert match, "unreachable: the settings checked it"
    number, unit = float(match["number"]), match["unit"] or ""
    amount = int(total * number / 100 if unit == "%" else number * UNITS[unit])
    return max(total - amount, 0) if match["rest"] else min(amount, total)


def meanings() -> dict[str, str]:
    """Return the meaning of each setting: the text below it."""
    (settings,) = ast.parse(inspect.getsource(ApplianceSettings)).body
    assert isinstance(settings, ast.ClassDef)
    return {
        ast.unparse(field.target): ast.literal_eval(below.value)
        for field, below in itertools.pairwise(settings.body)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


def read_settings(**flags: Any) -> ApplianceSettings:
    """Return the settings in force; a flag of None was not given.

    Raises SettingsError naming the setting, its value and the rule. An unknown variable of our prefix is an error too.
    """
    known = {f"{PREFIX}{name.upper()}" for name in ApplianceSettings.model_fields} | {FILE_VARIABLE}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(f"{name}: no such setting", hint="`steering-appliance --help` lists them all")
    file = os.environ.get(FILE_VARIABLE, DEFAULT_FILE)
    try:
        return ApplianceSettings(**{name: value for name, value in flags.items() if value is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1]) or "settings"
        if first["type"] == "missing":
            raise SettingsError(f"setting {name} is missing: it has no default", hint=f"write it into {file}") from None
        value = "(not shown)" if name == "settings" else repr(first["input"])
        raise SettingsError(f"setting {name} = {value}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{file}: {syntax_fault(error)}") from None
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror or error}") from None


def read_token(path: Path) -> str:
    """Return the token in a file. Raises SettingsError unless only the owner may read the file."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4097)
    except OSError as error:
        raise SettingsError(f"token_file {path}: {error.strerror or error}") from None
    if mode & 0o077:
        raise SettingsError(f"token_file {path} has mode {mode:04o}: others can read it", hint=f"chmod 0600 {path}")
    token = text.strip().decode("ascii", "replace")
    if not re.fullmatch(r"[!-~]{1,4096}", token):
        raise SettingsError(f"token_file {path}: one line with the token that `steering token make` printed")
    return token
