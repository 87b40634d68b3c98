"""The architecture holds: imports go down, sizes read well, tests mirror the sources, and names say something."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for folder in ("steering", "geo_data") for path in (ROOT / folder).rglob("*.py"))
COMPILED = sorted(path.stem for path in (ROOT / "_fastpath").glob("*.pyx"))
BANNED = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
FASTAPI = ("steering.playback.http", "steering.control.api", "steering.control.app")

# A module may import what stands on a line below its own, and its own package; never what stands beside it.
LAYERS = (
    ("_fastpath", "geo_data"),
    ("steering.errors", "steering.escape"),
    ("steering.model", "steering.appliance"),
    ("steering.settings", "steering.console", "steering.process", "steering.uvicorn_adapter"),
    ("steering.state",),
    ("steering.tls",),
    ("steering.decision",),
    ("steering.playback", "steering.control"),
    ("steering.supervisor",),
    ("steering.simulation",),
    ("steering.cli",),
)
CONTROL = (
    ("feed_files",),
    ("records",),
    ("routes", "health", "fill", "playlists"),
    ("services",),
    ("verbs",),
    ("jobs", "api", "remote"),
    ("first_start", "without_records"),
    ("app",),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
CONTROL_LEVELS = {f"steering.control.{name}": level for level, names in enumerate(CONTROL) for name in names}

MOST_LINES = 500
MOST_METHODS = 20
MOST_FUNCTION_LINES = 60
# Functions that may be longer, and the essay that says why.
LONG_FUNCTIONS: dict[str, str] = {}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Return every node of a source, parsed once for all tests."""
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, `from package import module` resolved to the module."""
    imported: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = ROOT / Path(*node.module.split("."), alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir() or inner.with_suffix(".pyx").exists()
                imported.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return imported


def layer_of(module: str, levels: dict[str, int]) -> str | None:
    """Return the entry of the levels that a module belongs to, None for one that belongs to none."""
    while module:
        if module in levels:
            return module
        module = module.rpartition(".")[0]
    return None


def broken_layers(path: Path, levels: dict[str, int]) -> list[str]:
    """Return the imports of a file that do not go down."""
    own = layer_of(name_of(path), levels)
    if own is None:
        return []
    return [
        imported
        for imported in sorted(imports_of(path))
        if (other := layer_of(imported, levels)) is not None and other != own and levels[other] >= levels[own]
    ]


@pytest.mark.parametrize("path", MODULES, ids=list(NAMES))
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    assert name == "steering" or layer_of(name, LEVELS), f"{name} belongs to no layer: add it to LAYERS"
    assert not broken_layers(path, LEVELS)
    if name.startswith("steering.control."):
        assert layer_of(name, CONTROL_LEVELS), f"{name} belongs to no layer of control: add it to CONTROL"
        assert not broken_layers(path, CONTROL_LEVELS)


def test_the_appliance_imports_nothing_of_the_service_but_its_errors() -> None:
    for name, path in NAMES.items():
        imported = {other for other in imports_of(path) if other.split(".")[0] in ("steering", "_fastpath", "geo_data")}
        if name.startswith("steering.appliance"):
            assert all(other == "steering.errors" or other.startswith("steering.appliance") for other in imported), name
        else:
            assert not any(other.startswith("steering.appliance") for other in imported), name


def test_there_are_no_circles() -> None:
    graph = {
        name: {other for other in imports_of(path) if other.startswith("steering")} for name, path in NAMES.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done and module in graph:
            for other in graph[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_fastapi_appears_only_where_http_is_spoken() -> None:
    for path in MODULES:
        if any(name.split(".")[0] in ("fastapi", "starlette") for name in imports_of(path)):
            assert name_of(path).startswith(FASTAPI), name_of(path)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_modules_import_nothing_of_the_layers_above(name: str) -> None:
    for suffix in (".pyx", ".pxd", ".pyi"):
        path = ROOT / "_fastpath" / f"{name}{suffix}"
        if path.exists():
            assert not re.search(r"^\s*(from|import|cimport)\s+(steering|geo_data)", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_modules_are_the_ones_loaded_and_their_stubs_name_what_they_have(name: str) -> None:
    module = importlib.import_module(f"_fastpath.{name}")
    assert module.__file__ is not None
    assert Path(module.__file__).suffix == ".so"
    path = ROOT / "_fastpath" / f"{name}.pyi"
    if not path.exists():  # a module for other compiled modules alone
        assert {member for member in vars(module) if not member.startswith("__")} <= {"annotations"}
        return
    stub = ast.parse(path.read_text())
    assert ast.get_docstring(stub), f"{name}.pyi has no docstring"
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not (
            isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
        ):
            assert hasattr(module, node.name), node.name
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        assert hasattr(getattr(module, node.name), member.name), f"{node.name}.{member.name}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    for path in MODULES:
        assert not BANNED & set(path.relative_to(ROOT).with_suffix("").parts), path


def test_modules_are_short() -> None:
    sources = [*MODULES, *(ROOT / "_fastpath").glob("*.p[yx][xd]"), *(ROOT / "_fastpath").glob("*.h")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_classes_have_few_public_methods() -> None:
    crowded = {}
    for name, path in NAMES.items():
        for node in nodes_of(path):
            if isinstance(node, ast.ClassDef):
                methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
                public = [item.name for item in methods if not item.name.startswith("_")]
                if len(public) > MOST_METHODS:
                    crowded[f"{name}.{node.name}"] = len(public)
    assert crowded == {}


def test_functions_are_short() -> None:
    long = {}
    for name, path in NAMES.items():
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    long[f"{name}.{node.name}"] = length
    for path in (ROOT / "_fastpath").glob("*.pyx"):
        for name, length in compiled_functions(path.read_text()):
            if length > MOST_FUNCTION_LINES:
                long[f"_fastpath.{path.stem}.{name}"] = length
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def compiled_functions(text: str) -> list[tuple[str, int]]:
    """Return the functions of a Cython source, with their lengths in lines, by their indentation."""
    lines = text.splitlines()
    functions: list[tuple[str, int]] = []
    for number, line in enumerate(lines):
        start = re.match(r"( *)(?:cp?def|def)\b(?!\s+(?:class|enum|struct|extern|packed|fused)\b)[^=(]*?(\w+)\(", line)
        if start and "cdef extern" not in line:
            end = last = number
            for end in range(number + 1, len(lines)):
                inner = lines[end]
                if inner.strip() and len(inner) - len(inner.lstrip()) <= len(start[1]) and inner.strip()[0] not in ")":
                    break
                last = end if inner.strip() else last
            functions.append((start[2], last - number + 1))
    return functions


def test_tests_mirror_the_sources() -> None:
    """Each `test_<module>.py` stands where its module stands; `tests/system` is for what crosses modules."""
    strays = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        where = path.relative_to(ROOT / "tests")
        if where.parts[0] in ("system", "players") or where.name in ("test_architecture.py", "test_docs.py"):
            continue
        name = where.stem.removeprefix("test_")
        if where.parts[0] == "fastpath":
            exists = name in COMPILED
        else:
            top = ROOT if where.parts[0] == "geo_data" else ROOT / "steering"
            source = top / where.parent / name
            exists = source.with_suffix(".py").exists() or source.is_dir() or where.parent.name == name
        if not exists:
            strays.append(str(where))
    assert strays == []


def test_tests_use_no_retired_word() -> None:
    """The sources follow the glossary; so do the tests. `found` and the like are no names for values."""
    retired = re.compile(r"(?<![a-z])(lanes?|doors?|voices?|wish(es)?|belief|blast|rungs?)(?![a-z])", re.IGNORECASE)
    used = []
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text()
        if path.name in ("test_docs.py", Path(__file__).name):
            continue
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        used += [f"{path.name}: {word}" for word in sorted(names & {"found", "told", "said"})]
        used += [f"{path.name}: {word[0]}" for word in retired.finditer(text)]
    assert used == []


def test_exceptions_are_caught_broadly_only_where_a_loop_or_a_process_ends() -> None:
    for path in MODULES:
        for node in nodes_of(path):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
                reraises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                ends = (
                    "steering.control.jobs.clockwork",
                    "steering.process.child",
                    "steering.playback.server.follower",
                )
                assert not broad or reraises or name_of(path) in ends, f"{path}:{node.lineno}"


def test_every_package_is_installed() -> None:
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert packages == {name_of(path) for path in MODULES if path.name == "__init__.py"} | {"_fastpath"}


def test_nothing_tracked_binds_the_project_to_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = re.compile(rb"pypi\.org|pythonhosted|registry\.npmjs|\.\./shared|\x2fwork\x2f|\x2froot\x2f")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix != ".xz" and path != Path(__file__):
            assert not words.search(path.read_bytes()), name
