"""What the documentation shows exists and works."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from dw_orchestration import PostHogWarehouseComponent
from dw_orchestration.cli.app import app
from dw_orchestration.operations.jobs import RESYNC
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.posthog.client import PostHogWarehouseClient

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SNIPPETS = sorted(path for path in (DOCS / "snippets").iterdir() if path.suffix in {".py", ".yaml"})
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "snippets" not in page.parts),
]
# what `dg` and Dagster themselves offer, and what a checkout has
COMMANDS = {"cd", "create-dagster", "dagster", "dg", "dw", "export", "make", "pip", "python"}


def named(page: Path) -> str:
    """The page, for the report of a test."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The code of a language on a page."""
    # in braces where the block is an include, which the formatter takes for Python otherwise
    return re.findall(rf"```(?:{language}| {{{{ \.{language} }}}})\n(.*?)```", page.read_text(), flags=re.DOTALL)


def shell_lines(page: Path) -> list[list[str]]:
    """The commands on a page, in words, without comments."""
    lines = [line for block in blocks(page, "shell") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built documentation."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "docs/generate.py"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_documentation_needs_nothing_from_elsewhere(site) -> None:
    """No page loads a script, a style, a font or a picture from another address."""
    text = "\n".join(page.read_text() for page in site.rglob("*.html"))

    loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"']?(https?:[^\"'> ]+)", text)
    loaded += re.findall(r"<link\b[^>]*rel=[\"']?(?:stylesheet|preconnect)[^>]*href=[\"']?(https?:[^\"'> ]+)", text)
    assert [] == loaded


@pytest.mark.parametrize("attribute", sorted(PostHogWarehouseComponent.model().model_fields))
def test_reference_says_what_each_attribute_does(site, attribute) -> None:
    """The component's page has every attribute, with a description."""
    page = (site / "reference" / "component" / "index.html").read_text()

    (row,) = re.findall(rf"<tr>\s*<td><code>{attribute}</code></td>.*?</tr>", page, flags=re.DOTALL)[:1]
    *_, description = re.findall(r"<td>(.*?)</td>", row, flags=re.DOTALL)
    assert description


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_pictures_exist(page) -> None:
    """Every file that a page links to exists."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())

    assert [] == [target for target in targets if "://" not in target and not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_attributes_that_pages_show_are_the_components(page) -> None:
    """A setting that is documented is one that the component takes."""
    known = set(PostHogWarehouseComponent.model().model_fields)
    shown = [yaml.safe_load(block) for block in blocks(page, "yaml") if "--8<--" not in block]

    assert set() == {name for block in shown for name in block.get("attributes", block) if name != "type"} - known


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=named)
def test_code_on_pages_is_a_file_that_runs(page) -> None:
    """Code and settings are included from snippets and examples, which have tests; pages contain none."""
    code = [*blocks(page, "python"), *blocks(page, "yaml"), *blocks(page, "sql")]

    assert [] == [block for block in code if not re.fullmatch(r'--8<-- "(docs/snippets|examples)/[^"]+"\n', block)]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=named)
def test_snippet_is_shown(snippet) -> None:
    """A snippet that no page shows is one to delete."""
    assert any(f'"docs/snippets/{snippet.name}' in page.read_text() for page in PAGES)


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
    rows = re.findall(r"^\| (.*) \| (.*) \|$", (DOCS / "evidence.md").read_text(), flags=re.MULTILINE)
    features = [row for row in rows if row[0] not in {"feature", "---"}]

    assert len(features) > len(rows) / 2
    assert [] == [feature for feature, shown_by in features if not re.search(r"`\w+`", shown_by)]


def test_readme_is_short() -> None:
    """A newcomer reads it whole: at most 600 words."""
    assert len((ROOT / "README.md").read_text().split()) <= 600
