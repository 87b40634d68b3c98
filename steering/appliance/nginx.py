"""The nginx configuration of an appliance: `steering-appliance --nginx` prints it, made from the settings.

Three servers: players (`served/`), other appliances (`fill/`, with tokens of its own and no upstream, so that no
request for a title can make an appliance ask another one), and the agent on loopback. nginx needs to write nothing.
"""

from __future__ import annotations

import re
from typing import Final

from steering.appliance.settings import ApplianceSettings
from steering.appliance.store import CANARY
from steering.errors import SettingsError

SAFE: Final = re.compile(r"[A-Za-z0-9 ._/:@%+,\[\]*~-]+")  # nothing that ends a word or begins a variable
MEDIA: Final = "media"  # the file of a title that is one file
MEGABIT: Final = 125_000  # bytes of a megabit

HEAD: Final = """\
# Made by `steering-appliance --nginx`. Install it in the http context, as /etc/nginx/conf.d/steering-appliance.conf,
# run `nginx -t` and reload nginx. Change the settings of steering-appliance instead of this file.
"""

KEYS: Final = """
# Secrets by key id, as `steering key make` printed them: `k1 "secret";`. Mode 0600, owner root.
map $arg_k $steering_secret {
    default "";
    include @serve_key_file@;
}

# The client's network for bound tokens, as docs/formats.md specifies it.
map $binary_remote_addr $steering_network {
    default " 0";
    "~(?s)^(?<ipv4>.{3}).\\z" " 4$ipv4";
    "~(?s)^\\x00{10}\\xff\\xff(?<mapped>.{3}).\\z" " 4$mapped";
    "~(?s)^\\x00\\x64\\xff\\x9b\\x00{8}(?<nat64>.{3}).\\z" " 4$nat64";
    "~(?s)^\\x20\\x02(?<sixtofour>.{3}).{11}\\z" " 4$sixtofour";
    "~(?s)^(?<ipv6>.{6}).{10}\\z" " 6$ipv6";
}
map $arg_b $steering_client {
    default "";
    1 $steering_network;
}
"""

DEMAND_CACHE: Final = """
proxy_cache_path /var/cache/nginx/steering levels=1:2 use_temp_path=off inactive=30d
                 keys_zone=steering_demand:64m max_size=@demand_gb@g;
"""

SERVE: Final = """
server {
@serve_listen@
    server_name @hosts@;
    server_tokens off;
@serve_certificate@
    root @folder@/served;
    # Titles are links to the folders of recipes; links of another owner are not followed.
    disable_symlinks if_not_owner from=$document_root;
    sendfile on;
    sendfile_max_chunk 512k;
    aio threads;
    tcp_nopush on;
    # A second: so soon a damaged file that the agent took away is not served any more.
    open_file_cache max=20000 inactive=60s;
    open_file_cache_valid 1s;

    location / {
@secure_link@
        add_header access-control-allow-origin *;
        # A title of one file is the file `media` of its recipe.
        try_files $uri $uri/@media@ @missing@;
    }
@demand@}
"""

SECURE_LINK: Final = """\
        secure_link $arg_md5,$arg_expires;
        secure_link_md5 "$secure_link_expires$steering_client$uri $steering_secret";
        if ($steering_secret = "") {
            return 403;  # an unknown or retired key
        }
        if ($secure_link = "") {
            return 403;  # altered, or signed for another client
        }
        if ($secure_link = "0") {
            return 410;  # expired
        }
"""

DEMAND: Final = """
    # The tail, filled on demand: by slices, so that a range does not fetch the whole file.
    location @demand {
        rewrite ^ $uri? break;
        slice 8m;
        proxy_pass @demand_origin@;
        proxy_http_version 1.1;
        proxy_ssl_server_name on;
        proxy_set_header Range $slice_range;
        proxy_cache steering_demand;
        proxy_cache_key $uri$slice_range;
        proxy_cache_valid 200 206 30d;
        proxy_cache_lock on;
        proxy_cache_use_stale error timeout updating;
    }
"""

FILL: Final = """
# The key of fill tokens, one line: `default "secret";`. Mode 0600, owner root.
map $server_port $steering_fill_secret {
    include @fill_key_file@;
}
limit_conn_zone $server_port zone=steering_fill:64k;

server {
@fill_listen@
    server_name _;
    server_tokens off;
@fill_certificate@
    root @folder@;
    disable_symlinks on from=$document_root;
    sendfile on;
    sendfile_max_chunk 512k;
    aio threads;

    location / {
        return 404;
    }

    location ~ "^/fill/(?<fill_service>[^/]+)/(?<fill_recipe>sha256-[0-9a-f]{64})/" {
        limit_except GET {
            deny all;
        }
        secure_link $arg_md5,$arg_expires;
        secure_link_md5 "$secure_link_expires/fill/$fill_service/$fill_recipe $steering_fill_secret";
        if ($steering_fill_secret = "") {
            return 403;
        }
        if ($secure_link = "") {
            return 403;  # altered, or for another recipe
        }
        if ($secure_link = "0") {
            return 403;  # expired
        }
        limit_conn steering_fill @fill_connections@;
        limit_rate @fill_rate@;
    }
}
"""

STATUS: Final = """
server {
    listen @status_listen@;
    access_log off;
    location / {
        return 404;
    }
    location = /status {
        stub_status;
    }
    location = /@canary@ {
        root @folder@;
    }
    # The agent asks for each title before it reports it: HEAD alone, since players need a signed URL.
    location /served/ {
        root @folder@;
        disable_symlinks if_not_owner from=$document_root;
        limit_except HEAD {
            deny all;
        }
    }
}
"""


def configuration(settings: ApplianceSettings) -> str:
    """Return the configuration. Raises SettingsError for a value that nginx would read as more than a word."""
    values = {
        "folder": word("folder", str(settings.folder.absolute())),
        "hosts": word("hosts", " ".join(settings.hosts) or "_"),
        "serve_listen": listen(settings.serve_listen, settings),
        "fill_listen": listen(settings.fill_listen, settings),
        "serve_certificate": certificate(settings.serve_listen, settings),
        "fill_certificate": certificate(settings.fill_listen, settings),
        "fill_key_file": word("fill_key_file", str(settings.fill_key_file)),
        "fill_connections": str(settings.fill_connections),
        "fill_rate": str(settings.fill_connection_mbps * MEGABIT),
        "status_listen": settings.status_listen,
        "canary": CANARY,
        "media": MEDIA,
        "secure_link": SECURE_LINK if settings.serve_key_file else "",
        "missing": "@demand" if settings.demand_origin else "=404",
        "demand_gb": str(settings.demand_gb),
    }
    parts = [HEAD, SERVE, FILL, STATUS]
    if settings.serve_key_file:
        values["serve_key_file"] = word("serve_key_file", str(settings.serve_key_file))
        parts.insert(1, KEYS)
    values["demand"] = ""
    if settings.demand_origin:
        parts.insert(1, DEMAND_CACHE)
        origin = word("demand_origin", settings.demand_origin)
        values["demand"] = DEMAND.replace("@demand_origin@", origin)
    text = re.sub(r"@([a-z_]+)@", lambda match: values[match[1]], "".join(parts))
    return re.sub(r"\n\n+(?= *\})|(?<=\n)[ ]*\n(?=\n)|(?<=\{\n)\n", "\n", text)


def word(setting: str, value: str) -> str:
    """Return a value that nginx reads as it is. Raises SettingsError for one with other characters."""
    if not SAFE.fullmatch(value) or (" " in value and setting != "hosts"):
        raise SettingsError(f"setting {setting} = {value!r}: nginx's configuration takes no such characters")
    return value


def listen(address: str, settings: ApplianceSettings) -> str:
    """Return the listen directives of a port or an address: a port alone is that of both families."""
    port, _, options = address.partition(" ")
    rest = f" {options}" if options else ""
    lines = [f"    listen {port}{rest};"]
    if port.isdecimal() and settings.ipv6 != "no":
        lines.append(f"    listen [::]:{port}{rest};")
    return "\n".join(lines)


def certificate(address: str, settings: ApplianceSettings) -> str:
    if " ssl" not in address:
        return ""
    return (
        f"    ssl_certificate {word('certificate_file', str(settings.certificate_file))};\n"
        f"    ssl_certificate_key {word('certificate_key_file', str(settings.certificate_key_file))};\n"
        "    ssl_protocols TLSv1.2 TLSv1.3;"
    )
