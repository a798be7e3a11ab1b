"""The check of plain English finds what the word list names, in prose only."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

ROOT = Path(__file__).parents[2]
LIST = """# Contributing

| not | but |
| --- | --- |
| frob/frobs, is … frobbed | set |

| not in names | but |
| --- | --- |
| blorb/blorbs | ball |
"""


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("plain_english", ROOT / "tools" / "plain_english.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(checker, tmp_path, capsys) -> Callable[[str, str], list[str]]:
    """Checks a checkout that has one more file, and returns what is printed for it."""
    for name in checker.PAGES:
        (tmp_path / name).write_text(LIST if name == checker.WORD_LIST else "# A page\n")

    def run(file: str, text: str) -> list[str]:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        status = checker.main(tmp_path)
        *found, _ = capsys.readouterr().out.splitlines()
        assert status == bool(found)
        return found

    return run


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""Frobs the table."""', 1),
        ("x = 1  # it frobs", 1),
        ('raise ValueError(\n    f"{name} is quite often"\n    " frobbed"\n)', 2),
        ("# a comment that is\n# frobbed\nx = 1", 1),
    ],
    ids=["docstring", "comment", "message in two parts", "comment in two lines"],
)
def test_phrase_in_a_source_is_found_where_it_is(check, text, line) -> None:
    """A phrase is found in docstrings, comments and messages, also across their lines."""
    (found,) = check("dw_orchestration/a.py", f"{text}\n")

    assert found.startswith(f"dw_orchestration/a.py:{line}: '")
    assert found.endswith(" -> set")


@pytest.mark.parametrize("text", ["frobs = frob()", '"""Calls `frob`."""', 'f"{frob} rows"', "# unfrob, frob-like"])
def test_code_is_no_prose(check, text) -> None:
    """Identifiers, code in backticks and parts of words are left alone."""
    assert [] == check("dw_orchestration/a.py", f"{text}\n")


def test_names_have_words_of_their_own(check) -> None:
    """Names of modules, classes and functions are judged by the second table, in either spelling."""
    found = check("dw_orchestration/blorb.py", "class BlorbReader:\n    def read_blorbs(self, blorb): ...\n")

    assert [
        "dw_orchestration/blorb.py:1: the name 'BlorbReader' -> ball",
        "dw_orchestration/blorb.py:1: the name 'blorb' -> ball",
        "dw_orchestration/blorb.py:2: the name 'read_blorbs' -> ball",
    ] == found


def test_data_of_tests_is_not_judged(check) -> None:
    """Of a test only the docstrings are judged: its strings may be PostHog's answers."""
    (found,) = check("tests/test_a.py", 'def test_blorb():\n    """It frobs."""\n    assert "frob"\n')

    assert "tests/test_a.py:2: 'frobs' -> set" == found


def test_pages_are_judged_without_their_code(check) -> None:
    """Text and headings of a page are judged; code, the targets of links and the word list are not."""
    page = "# To frob\n\n`frob` [link](frob.md)\n\n```shell\nfrob\n```\n\nIt is\nfrobbed.\n"

    assert ["docs/a.md:1: 'frob' -> set", "docs/a.md:9: 'is frobbed' -> set"] == check("docs/a.md", page)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dw_orchestration/a.py", "x = 'frob'  # plain: PostHog's own word\n"),
        ("dw_orchestration/a.py", "# plain: PostHog's own words\nx = {\n    1: 'frob',\n    2: 'frobs',\n}\n"),
        ("docs/a.md", "It frobs. <!-- plain: the machine of that name -->\n"),
        ("docs/a.md", "<!-- plain: the machine of that name -->\nA long story.\nIt frobs.\n"),
        ("docs/a.md", "Write `<!-- plain: <reason> -->` to ignore.\n"),
    ],
)
def test_phrase_may_stay_with_a_reason(check, file, text) -> None:
    """An ignore covers its line, or, alone on a line, the statement or paragraph after it."""
    assert [] == check(file, text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 'frob'  # plain:\n", "an ignore needs a reason: `plain: <reason>`"),
        ("x = 'set'  # plain: a reason\n", "this ignore ignores nothing: remove it"),
        ("# plain: a reason\nx = 'set'\ny = 'frob'\n", "'frob' -> set"),
    ],
    ids=["no reason", "no phrase", "phrase in the next statement"],
)
def test_ignore_is_judged_too(check, text, problem) -> None:
    """An ignore has a reason, and is removed with its phrase."""
    assert problem in " ".join(check("dw_orchestration/a.py", text))
