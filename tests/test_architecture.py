"""The floors hold: imports go down, west and east do not meet, the doors alone know FastAPI, and names say something."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from _fastpath import counters, holdings, lpm, rib
from _fastpath import fast_path as fast_path
from _fastpath import ranking as pick

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for folder in ("steering", "geo_data") for path in (ROOT / folder).rglob("*.py"))
COMPILED = ("counters", "holdings", "fast_path", "lpm", "pick", "rib")
BANNED = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
FASTAPI_DOORS = {"steering.playback.app", "steering.control.api", "steering.control.app"}

# Floor by module or package; a module may import from floors below its own, and from its own room.
FLOORS = {
    "_fastpath": 0,
    "geo_data": 0,
    "steering.errors": 1,
    "steering.model": 1,
    "steering.settings": 1,
    "steering.statefile": 2,
    "steering.keys": 2,
    "steering.residency": 2,
    "steering.routes": 2,
    "steering.playlists": 2,
    "steering.streams": 2,
    "steering.decision.snapshot": 2,
    "steering.apart": 2,
    "steering.doors": 2,
    "steering.notify": 2,
    "steering.playback": 3,
    "steering.control": 3,
    "steering.replay": 4,
    "steering.sim": 4,
    "steering.supervisor": 4,
    "steering.console": 2,
    "steering.top": 3,
    "steering.cli": 5,
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, `from package import module` resolved to the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = ROOT / Path(*node.module.split("."), alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir() or inner.with_suffix(".pyx").exists()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return found


def room_of(module: str) -> str | None:
    """Return the entry of FLOORS that a module belongs to, None for what is not ours."""
    while module:
        if module in FLOORS:
            return module
        module = module.rpartition(".")[0]
    return None


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_imports_go_down(path: Path) -> None:
    room = room_of(name_of(path))
    if room is None:
        assert imports_of(path) == set(), f"{path} belongs to no floor: add it to FLOORS"
        return
    for imported in imports_of(path):
        other = room_of(imported)
        if other is not None and other != room:
            assert (
                FLOORS[other] < FLOORS[room]
                or {FLOORS[other], FLOORS[room]} <= {1}
                or {FLOORS[other], FLOORS[room]} <= {2}
            ), f"{name_of(path)} imports {imported}"


def test_there_are_no_circles() -> None:
    graph = {name_of(path): {other for other in imports_of(path) if other.startswith("steering")} for path in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done and module in graph:
            for other in graph[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_fastapi_appears_only_at_the_doors() -> None:
    for path in MODULES:
        if any(name.split(".")[0] in ("fastapi", "starlette") for name in imports_of(path)):
            assert name_of(path) in FASTAPI_DOORS


def test_only_the_snapshot_imports_lookup_and_pick_and_only_the_network_imports_the_rib() -> None:
    for path in MODULES:
        for imported in imports_of(path):
            if imported in ("_fastpath.lpm", "_fastpath.pick"):
                assert name_of(path) == "steering.decision.snapshot"
            if imported == "_fastpath.rib":
                assert name_of(path).startswith("steering.control.network")
            if imported == "_fastpath.fast_path":
                assert name_of(path) == "steering.playback.protocol"


def test_the_compiled_floor_imports_nothing_of_ours() -> None:
    for path in (ROOT / "_fastpath").iterdir():
        if path.suffix in (".pyx", ".pxd", ".h"):
            assert not re.search(r"^\s*(from|import|cimport)\s+(steering|geo_data)", path.read_text(), re.MULTILINE), (
                path
            )


def test_no_module_has_a_name_that_says_nothing() -> None:
    for path in MODULES:
        assert not BANNED & set(path.relative_to(ROOT).with_suffix("").parts), path


def test_the_compiled_modules_are_the_ones_loaded() -> None:
    for module in (counters, holdings, fast_path, lpm, pick, rib):
        assert module.__file__ is not None
        assert Path(module.__file__).suffix == ".so"


@pytest.mark.parametrize("name", COMPILED)
def test_stubs_name_what_the_modules_have(name: str) -> None:
    module = importlib.import_module(f"_fastpath.{name}")
    stub = ast.parse((ROOT / "_fastpath" / f"{name}.pyi").read_text())
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not (
            isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
        ):
            assert hasattr(module, node.name), node.name
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        assert hasattr(getattr(module, node.name), member.name), f"{node.name}.{member.name}"
            assert ast.get_docstring(node) or isinstance(node, ast.ClassDef), f"{name}.{node.name} has no docstring"


def test_exceptions_are_caught_broadly_only_where_a_loop_or_a_process_ends() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
                reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                assert not broad or reraises or name_of(path) in ("steering.control.loop", "steering.apart"), (
                    f"{path}:{node.lineno}"
                )


def test_every_package_is_installed() -> None:
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {name_of(path) for path in MODULES if path.name == "__init__.py"} | {"_fastpath"}
    assert packages == found


def test_nothing_tracked_binds_the_project_to_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = re.compile(rb"pypi\.org|pythonhosted|registry\.npmjs|\.\./shared|\x2fwork\x2f|\x2froot\x2f")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix != ".xz" and name != "tests/test_house.py":
            assert not words.search(path.read_bytes()), name
