"""The contract with uvicorn: where it fails, read the new uvicorn's httptools_impl.py and server.py before anything else."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import httptools
import pytest
import uvicorn.server
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from steering.uvicorn_adapter import UvicornServer, protocol_class

SOURCES = Path(__file__).parents[1] / "steering"

CYCLE = [  # what an answer does with the connection
    "self.disconnected = False",
    "self.message_event.wait()",
    "self.response_started = True",
    "if not self.keep_alive:\n                    self.transport.close()\n                self.on_response()",
]
PROTOCOL = [
    "self.pipeline.appendleft((self.cycle, app))",
    "name = name.lower()",
    "self.parser.get_http_version()",
    "self.parser.get_method()",
    "self.connections.add(self)",
    "self.connections.discard(self)",
    "self.pipeline",
    "self.cycle.response_complete",
    "self.cycle.keep_alive = False",  # in `shutdown`
    "self.flow = FlowControl(",
    "set_dangerous_leniencies(lenient_data_after_close=True)",  # the parser's one option
]
METHODS = [
    "connection_made",
    "connection_lost",
    "data_received",
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "on_url",
    "pause_writing",
    "resume_writing",
    "send_400_response",
    "shutdown",
    "timeout_keep_alive_handler",
    "_unset_keepalive_if_required",
]


@pytest.mark.parametrize("text", CYCLE)
def test_an_answer_of_uvicorn_ends_as_the_adapter_expects(text: str) -> None:
    assert text in inspect.getsource(RequestResponseCycle)


@pytest.mark.parametrize("text", PROTOCOL)
def test_the_protocol_of_uvicorn_keeps_the_names_that_the_adapter_uses(text: str) -> None:
    assert text in inspect.getsource(HttpToolsProtocol)


@pytest.mark.parametrize("name", METHODS)
def test_the_protocol_of_uvicorn_has_the_methods_that_the_adapter_overrides_or_calls(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


def test_the_server_of_uvicorn_makes_and_counts_connections_as_before() -> None:
    wanted = ["self", "config", "server_state", "app_state", "_loop"]
    assert list(inspect.signature(HttpToolsProtocol.__init__).parameters) == wanted
    assert list(inspect.signature(UvicornServer.__init__).parameters) == wanted
    state = ServerState()
    assert (state.connections, state.tasks, state.default_headers) == (set(), set(), [])
    source = inspect.getsource(uvicorn.server.Server)
    assert "config.http_protocol_class(" in source
    assert "connection.shutdown()" in source
    made = protocol_class(lambda server: server)(config=1, server_state=state, app_state={}, _loop=None)  # type: ignore[type-var]
    assert (made.config, made.state, made.pending) == (1, state, 0)


def test_flow_control_has_two_flags_and_four_verbs() -> None:
    flow = FlowControl(asyncio.Transport())
    assert (flow.read_paused, flow.write_paused) == (False, False)
    assert all(map(callable, (flow.pause_reading, flow.resume_reading, flow.pause_writing, flow.resume_writing)))


def test_an_error_in_a_callback_is_an_error_of_the_parser() -> None:
    assert issubclass(httptools.HttpParserCallbackError, httptools.HttpParserError)


def test_only_the_adapter_imports_uvicorn() -> None:
    others = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py") if "uvicorn" in imports_of(path)}
    assert others == {"uvicorn_adapter.py", "supervisor/tasks.py"}, "the supervisor starts uvicorn's server"


def imports_of(path: Path) -> set[str]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return {words[1].partition(".")[0] for words in lines if words[:1] in (["import"], ["from"])}
