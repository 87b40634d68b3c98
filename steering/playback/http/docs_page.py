"""The page at /docs: the OpenAPI document as HTML, without scripts and without anything from other hosts."""

from __future__ import annotations

from html import escape
from typing import Any, Final

CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; --accent: light-dark(#0a5, #4d9); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h2 b { color: var(--accent); font-weight: 600; margin-right: .6rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } pre { background: #8881; padding: .8rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--quiet); font-weight: 500; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { width: 6rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding: 1rem 0; color: var(--quiet); font-size: 14px; }
"""

ATTRIBUTION: Final = """
Which network a prefix belongs to:
<a href="https://db-ip.com">IP Geolocation by DB-IP</a>, with data of
<a href="https://www.routeviews.org">RouteViews</a> and the <a href="https://www.nro.net">NRO</a>
(<a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>), expanded to prefixes.
Countries: <a href="https://iptoasn.com">iptoasn.com</a> (PDDL 1.0).
"""


def docs_page(api: dict[str, Any], example: str) -> str:
    """Return the page of an OpenAPI document; `example` is a request worth trying, as a shell line."""
    sections = [
        section(method.upper(), path, operation)
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
        if method != "head"
    ]
    info = api["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style>"
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])} Version {escape(info['version'])}; "
        f'the same as <a href="openapi.json">OpenAPI</a>.</p>'
        f"<pre>{escape(example)}</pre>{''.join(sections)}<footer>{ATTRIBUTION}</footer></html>"
    )


def section(method: str, path: str, operation: dict[str, Any]) -> str:
    """Return the part of the page about one operation."""
    parameters = "".join(
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(value_of(item))}</td>"
        f"<td>{escape(item.get('description', ''))}</td></tr>"
        for item in operation.get("parameters", [])
    )
    table = f"<table><tr><th>parameter<th>value<th>meaning</tr>{parameters}</table>" if parameters else ""
    responses = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
    )
    return (
        f"<h2><b>{escape(method)}</b><code>{escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
        f"{table}<h3>answers</h3><table>{responses}</table>"
    )


def value_of(parameter: dict[str, Any]) -> str:
    """Return the form of a parameter's value."""
    schema = parameter.get("schema", {})
    values = ", ".join(str(value) for value in schema.get("enum", [])) or schema.get("type", "")
    if "maximum" in schema:
        values = f"{schema['minimum']} to {schema['maximum']}"
    if "default" in schema:
        values += f" (default {schema['default']})"
    return values + (", required" if parameter.get("required") else "")
