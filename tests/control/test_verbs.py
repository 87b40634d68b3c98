"""The list of verbs is the truth: every verb is answered, and the remote client calls it as the services are called."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from steering.control import api
from steering.control.api import report_endpoint, report_format
from steering.control.api.endpoints import ARGUMENTS, FUNCTIONS, service_function
from steering.control.services.control import Control
from steering.control.verbs import BY_NAME, CALLABLE, VERBS, Verb, markdown
from steering.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
# Verbs of no service: only a running control process has them.
OF_CONTROL = {"sessions", "overview", "alarms", "events", "reports", "explain", "what_if"}
OF_APPLIANCES = {"fill.manifest", "fill.sources"}  # no command calls them
OBJECTS = ("partners", "sites", "clusters", "appliances", "services")


def test_every_verb_is_answered_by_a_service_or_one_function() -> None:
    assert FUNCTIONS.keys() < BY_NAME.keys()
    for name in BY_NAME.keys() - FUNCTIONS.keys() - set(api.OF_THEIR_OWN):
        assert service_function(BY_NAME[name])
        assert set(BY_NAME[name].takes.values()) - {"progress", "why"} <= ARGUMENTS.keys(), name
    assert (BY_NAME["reports"].method, BY_NAME["reports"].path) == ("POST", report_endpoint.PATH)
    assert BY_NAME["reports"].most_bytes == report_format.MAX_BODY
    assert len({(verb.method, verb.path) for verb in VERBS}) == len(VERBS)


@pytest.mark.parametrize("verb", CALLABLE.values(), ids=list(CALLABLE))
def test_a_verb_takes_the_arguments_of_its_service(verb: Verb, settings: Settings) -> None:
    service, _, method = verb.name.rpartition(".")
    if not service or service in OBJECTS or verb.name in OF_APPLIANCES:
        assert verb.name in OF_APPLIANCES or service in OBJECTS or method in OF_CONTROL
        return
    with Control(settings) as control:
        parameters = inspect.signature(getattr(getattr(control, service), method)).parameters
    names = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    if verb.name == "playlists.put":
        names.remove("arrived")  # given by the endpoint, which fetches it
    assert [name for name in verb.takes if name in names] == names, "in this order"
    assert verb.takes.keys() == set(names) or len(names) < len(parameters)


def test_a_path_has_the_arguments_that_it_names() -> None:
    for verb in CALLABLE.values():
        if verb.takes:
            assert set(re.findall(r"{(\w+)", verb.path)) <= set(verb.takes.values()), verb.name


def test_the_docs_have_the_table_of_verbs() -> None:
    table = markdown()
    assert "| `POST /v1/tables/publish` | ops | waits |" in table
    assert "| `POST /v1/overrides` | ops, partner | runs |" in table
    assert table in DOCS.read_text()
