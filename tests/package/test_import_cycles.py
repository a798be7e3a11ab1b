"""No module of the package imports another in a circle, even for type checkers alone."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dw_orchestration

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(dw_orchestration.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Every name that is imported anywhere: also in functions, and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "the package has absolute imports only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """The modules that each module imports."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for importer, source in sources.items():
        for name in imported_names(ast.parse(source)):
            # the name is a module, or something in one
            found = next((module for module in (name, name.rpartition(".")[0]) if module in sources), None)
            if found is not None:
                graph[importer].add(found)
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, in the order in which they import each other; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_module_imports_another_in_a_circle() -> None:
    """The package's modules can be read in an order in which each comes after all that it imports."""
    graph = import_graph({module_name(path): path.read_text() for path in PACKAGE.rglob("*.py")})
    assert [] == circle(graph)


@pytest.mark.parametrize(
    "statement",
    [
        "from p.a import A",
        "from p import a",
        "import p.a",
        "def f():\n    from p.a import A",
        "if TYPE_CHECKING:\n    from p.a import A",
    ],
)
def test_every_kind_of_import_counts(statement: str) -> None:
    """Imports in functions and for type checkers hide a circle; they are found too."""
    found = circle(import_graph({"p": "", "p.a": "from p.b import B", "p.b": statement}))

    assert {"p.a", "p.b"} == set(found)
    assert found[0] == found[-1]
