"""What the documentation shows exists and works."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.assets.checks import DATA_AS_USUAL, SYNC_SUCCEEDED
from dw_orchestration.cli.app import app
from dw_orchestration.operations.jobs import RESYNC
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.sync.errors import SyncError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SNIPPETS = sorted(path for path in (DOCS / "snippets").iterdir() if path.suffix in {".json", ".py", ".yaml"})
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "snippets" not in page.parts),
]
# what `dg` and Dagster themselves offer, and what a checkout has
COMMANDS = {"cd", "create-dagster", "dagster", "dg", "dw", "echo", "export", "make", "mkdir", "pip", "python"}


def named(page: Path) -> str:
    """The page, for the report of a test."""
    return str(page.relative_to(ROOT))


def own_text(page: Path) -> str:
    """The page without what cog wrote into it."""
    return re.sub(r"<!--cog .*?<!--end-->", "", page.read_text(), flags=re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code of a language on a page, but for what cog wrote there."""
    return re.findall(rf"```{language}\n(.*?)```", own_text(page), flags=re.DOTALL)


def shell_lines(page: Path) -> list[list[str]]:
    """The commands on a page, in words, without comments."""
    lines = [line for block in blocks(page, "shell") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("attribute", sorted(PostHogWarehouseComponent.model().model_fields))
def test_reference_says_what_each_attribute_does(attribute) -> None:
    """The component's page has every attribute, with a description."""
    page = (DOCS / "reference" / "component.md").read_text()

    (row,) = re.findall(rf"^\| `{attribute}` \|.*$", page, flags=re.MULTILINE)[:1]
    *_, description, _ = row.split(" | ")[-1].rpartition(" |")
    assert description


def test_troubleshooting_has_every_error_and_every_check() -> None:
    """What can be red in Dagster is on the page: each way in which a sync can end, and each check."""
    page = (DOCS / "troubleshooting.md").read_text()
    history = {"state_is_current", "state_is_fresh", "sources_read"}
    checks = {SYNC_SUCCEEDED, DATA_AS_USUAL} | history
    cures = {error.cure for error in SyncError.__subclasses__()}

    assert set() == {check for check in checks if f"`{check}`" not in page}
    assert set() == {cure for cure in cures if cure not in page}


def test_pages_include_nothing_that_needs_a_build() -> None:
    """A page is read as it is: it has no directive of a site generator."""
    directives = re.compile(r"^(?:--8<--|:::|!!!|\?\?\?)|\{ ?[.:][^}`]*\}$", flags=re.MULTILINE)

    assert {} == {named(page): found for page in PAGES if (found := directives.findall(page.read_text()))}


IMPORT = re.compile(r"^[`>. ]*from (dw_orchestration[\w.]*) import (\([^)]*\)|[^\n`#]+)", flags=re.MULTILINE)


def imports(text: str) -> set[tuple[str, str]]:
    """The names that a text imports from the package, each with its module."""
    return {
        (module, name.partition(" as ")[0].strip())
        for module, names in IMPORT.findall(text)
        for name in names.strip("()").split(",")
        if name.strip() not in ("", "*")
    }


def can_be_imported(module: str, name: str) -> bool:
    """Whether a module has the name, or a module below it."""
    return hasattr(importlib.import_module(module), name) or find_spec(f"{module}.{name}") is not None


def test_what_is_shown_can_be_imported() -> None:
    """Every import on a page, in a snippet, an example or a docstring works, and so does each name of `__all__`."""
    files = [
        *PAGES,
        *DOCS.rglob("*.py"),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "dw_orchestration").rglob("*.py"),
    ]
    shown = {each for path in files for each in imports(path.read_text())}
    packages = ("dw_orchestration", "dw_orchestration.testing")
    public = {(package, name) for package in packages for name in importlib.import_module(package).__all__}

    assert ("dw_orchestration.testing", "EmbeddedWarehouse") in shown
    assert [] == [each for each in sorted(shown | public) if not can_be_imported(*each)]
    # what the reference describes of Python is what there is
    described = imports((DOCS / "reference" / "python.md").read_text()) | {("dw_orchestration", "__version__")}
    elsewhere = {
        ("dw_orchestration", name) for name in ("PostHogWarehouseClient", "PostHogWarehouseComponent", "errors")
    }
    assert set() == {each for each in public if each[0] == "dw_orchestration"} - described - elsewhere


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_anchors_exist(page) -> None:
    """The heading that a link leads to exists."""
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())

    assert [] == [link for link in links if link[1] not in anchors(page.parent / link[0] if link[0] else page)]


def test_every_page_can_be_reached() -> None:
    """Links lead from the first page of the documentation to each of the others."""
    reached, todo = set(), [DOCS / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            targets = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text())
            todo += [(page.parent / target).resolve() for target in targets]

    assert set() == set(DOCS.rglob("*.md")) - reached


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_pictures_exist(page) -> None:
    """Every file that a page links to exists."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())

    assert [] == [target for target in targets if "://" not in target and not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_attributes_that_pages_show_are_the_components(page) -> None:
    """A setting that is documented is one that the component takes."""
    known = set(PostHogWarehouseComponent.model().model_fields)
    shown = [yaml.safe_load(block) for block in blocks(page, "yaml")]

    assert set() == {name for block in shown for name in block.get("attributes", block) if name != "type"} - known


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=named)
def test_code_on_pages_is_a_file_that_runs(page) -> None:
    """Code and settings come from snippets and examples, which have tests; a page adds none."""
    assert [] == [*blocks(page, "python"), *blocks(page, "yaml"), *blocks(page, "sql")]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=named)
def test_snippet_is_shown(snippet) -> None:
    """A snippet that no page shows is one to delete."""
    assert any(f'show("docs/snippets/{snippet.name}"' in page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page) -> None:
    """A command on a page is one of a known program; targets of make and commands of `dw` exist as they stand."""
    lines = shell_lines(page)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)

    assert set() == {words[0] for words in lines} - COMMANDS
    assert set() == {words[1] for words in lines if words[0] == "make"} - set(targets)
    for words in lines:
        if words[0] == "dw":
            parse(words[1:])


def test_every_endpoint_has_its_names() -> None:
    """The table of endpoints has the 18 that PostHog documents, each with a method, a command and a place in the UI."""
    page = (DOCS / "reference" / "endpoints.md").read_text()
    rows = [
        line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| `(GET|POST|PATCH|DELETE) ", line)
    ]
    jobs = {operation.name for operation in (*OPERATIONS, RESYNC) if operation.has_job}

    assert 18 + 3 == len(rows) == len({endpoint for endpoint, *_ in rows})
    for endpoint, method, commands, places in rows:
        assert hasattr(PostHogWarehouseClient, method.strip("`")), endpoint
        for command in re.findall(r"`dw ([^`]+)`", commands):
            assert find(command.split()), command
        assert set(re.findall(r"`…_(\w+)`", places)) <= jobs, endpoint
        assert commands.strip(), endpoint
        assert places.strip(), endpoint


def find(words: list[str]) -> Any:
    """The command of `dw` that these words name."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]
    return command


def parse(words: list[str]) -> None:
    """Let the command `dw` read its arguments, and carry out nothing; a wrong one raises."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        command, *words = command.commands[words[0]], *words[1:]
    if hasattr(command, "commands"):
        assert set(words) <= {"--help", "--install-completion"}
    else:
        command.make_context("dw", words)


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The names of all tests, and of the classes that hold some."""
    trees = [ast.parse(file.read_text()) for file in sorted((ROOT / "tests").rglob("test_*.py"))]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_tests_that_pages_name_exist(page, tests) -> None:
    """A test that a page names exists, in whichever file."""
    cited = re.findall(r"`(test_\w+|ExactlyOnce)`", page.read_text())

    assert [] == [name for name in cited if name not in tests]


def test_each_feature_of_the_evidence_has_a_test() -> None:
    """Every row of the page names a test."""
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", (DOCS / "evidence.md").read_text(), flags=re.MULTILINE)
    features = [row for row in rows if row[0] not in {"feature", "---"}]

    assert len(features) > len(rows) / 2
    assert [] == [feature for feature, shown_by in features if not re.search(r"`\w+`", shown_by)]


def test_readme_is_short() -> None:
    """A newcomer reads it whole: at most 600 words."""
    assert len((ROOT / "README.md").read_text().split()) <= 600
