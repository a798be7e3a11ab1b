"""Finds phrases that the word list in CONTRIBUTING.md replaces, in the prose of sources and pages.

Judged are comments and strings in the package, docstrings in the tests, and pages without their code. Identifiers are
judged only by the second table, which lists words that are no good as names.

A phrase that has to stay gets a reason: `# plain: <reason>` at its line, or alone on the line before its statement;
`<!-- plain: <reason> -->` at its line, or alone on the line before its paragraph.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = ("dw_orchestration", "tests", "bench", "examples", "docs", "tools")
WORD_LIST = "CONTRIBUTING.md"
PAGES = ("README.md", WORD_LIST, "CHANGELOG.md")
WORD_TABLE = r"^\| (not(?: in names)?) \| but \|\n(?:\|.*\n)+"
IGNORE = re.compile(r"(?:#|<!--) *plain\b:? *(.*?) *(?:-->|$)")
PROSE = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
# in place of what is not prose, so that no phrase reaches across it
CODE = "\0"


class Rule(NamedTuple):
    """A phrase and what to write instead."""

    phrase: re.Pattern[str]
    better: str


@dataclass
class Text:
    """One file's prose, in the lines of the file, with `CODE` in place of the rest."""

    path: Path
    prose: str
    names: list[tuple[int, str]] = field(default_factory=list)
    """Names of the module and of what it defines, with their lines."""
    ignores: dict[int, tuple[str, range]] = field(default_factory=dict)
    """By line: the reason, and the lines that the ignore covers."""


def main(root: Path = ROOT) -> int:
    """Print each hit as `file:line: phrase -> better`; the exit status is 1 if there is any."""
    phrases, names = word_list((root / WORD_LIST).read_text())
    found = sorted(
        f"{text.path.relative_to(root)}:{line}: {problem}"
        for text in texts(root)
        for line, problem in problems(text, phrases, names)
    )
    print("\n".join([*found, f"{len(found)} phrases to replace. The word list is in {WORD_LIST}."]))
    return 1 if found else 0


def word_list(page: str) -> tuple[list[Rule], list[Rule]]:
    """The two tables of the page: phrases, and words in names."""
    rules: dict[str, list[Rule]] = {"not": [], "not in names": []}
    for table in re.finditer(WORD_TABLE, page, re.MULTILINE):
        for row in table[0].splitlines()[2:]:
            wrong, better = (cell.strip() for cell in row.strip("| ").split("|"))
            rules[table[1]] += [Rule(pattern(phrase), better) for phrase in wrong.split(",")]
    return rules["not"], rules["not in names"]


def pattern(phrase: str) -> re.Pattern[str]:
    """The expression for a phrase: `/` separates forms of a word, `…` is up to four words."""
    words = (
        r"(?:[\w'-]+\s+){0,4}?" if word == "…" else rf"(?:{'|'.join(map(re.escape, word.split('/')))})(?![\w-])\s*"
        for word in phrase.split()
    )
    return re.compile(rf"(?<![\w'-]){''.join(words)}")


def problems(text: Text, phrases: list[Rule], names: list[Rule]) -> Iterator[tuple[int, str]]:
    """Each hit that is not ignored, and each ignore that is of no use, with its line."""
    hits = [
        (text.prose.count("\n", 0, match.start()) + 1, f"{' '.join(match[0].split())!r} -> {rule.better}")
        for rule in phrases
        for match in rule.phrase.finditer(text.prose)
    ]
    hits += [
        (line, f"the name {name!r} -> {rule.better}")
        for line, name in text.names
        for rule in names
        if rule.phrase.search(" ".join(re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)).lower())
    ]
    ignored: set[int] = set()
    for line, hit in hits:
        covering = {at for at, (_, lines) in text.ignores.items() if line in lines}
        ignored |= covering
        if not covering:
            yield line, hit
    for line, (reason, _) in text.ignores.items():
        if not reason:
            yield line, "an ignore needs a reason: `plain: <reason>`"
        elif line not in ignored:
            yield line, "this ignore ignores nothing: remove it"


def texts(root: Path) -> Iterator[Text]:
    """Every file that is judged."""
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            yield python(path, docstrings_only=folder == "tests")
        for path in sorted((root / folder).rglob("*.md")):
            if "generated" not in path.parts:
                yield markdown(path)
    for name in PAGES:
        yield markdown(root / name)


def python(path: Path, *, docstrings_only: bool) -> Text:
    """The comments and strings of a module, or its docstrings alone."""
    source = path.read_text()
    offsets = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    prose = [mark if mark.isspace() else CODE for mark in source]
    docstrings = set(docstring_positions(source))
    text = Text(path, "", names=[] if docstrings_only else [(1, path.stem)])
    waiting: int | None = None
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row = token.start[0]
        span = slice(offsets[row - 1] + token.start[1], offsets[token.end[0] - 1] + token.end[1])
        if token.type == tokenize.COMMENT and (ignore := IGNORE.match(token.string)):
            text.ignores[row] = (ignore[1], range(row, row + 1))
            waiting = row if not token.line[: token.start[1]].strip() else waiting
        elif token.type in PROSE and (not docstrings_only or token.start in docstrings):
            prose[span] = readable(token.string)
        elif token.type == tokenize.NEWLINE and waiting:
            text.ignores[waiting] = (text.ignores[waiting][0], range(waiting, row + 1))
            waiting = None
        elif before in ("def", "class") and not docstrings_only:
            text.names.append((row, token.string))
        before = token.string
    text.prose = condensed("".join(prose))
    return text


def docstring_positions(source: str) -> Iterator[tuple[int, int]]:
    """Where the docstrings of a module begin."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            match node.body[0]:
                case ast.Expr(value=ast.Constant(value=str())) as docstring:
                    yield docstring.lineno, docstring.col_offset


def readable(token: str) -> str:
    """A comment or a string without its marks, and with the code in it masked; every character keeps its position."""
    is_f_string = re.match(r"[rR]?[fF]", token)
    token = re.sub(r"^[a-zA-Z]{0,2}(?=[\"'])|^#+", blank, token)
    token = re.sub(r"(?<=\\)[nt]|[\"\\]|(?<!\w)'|'(?!\w)", blank, token)
    token = re.sub(r"\{[^{}]*\}", masked, token) if is_f_string else token
    return re.sub(r"(`+).+?\1", masked, token, flags=re.DOTALL)


def markdown(path: Path) -> Text:
    """A page without its code and without the word list itself."""
    text = Text(path, "")
    page = re.sub(WORD_TABLE, masked, path.read_text(), flags=re.MULTILINE)
    page = re.sub(r"^(```+).*?^\1|(`+)[^`]+\2|(?<=\])\([^)]*\)", masked, page, flags=re.DOTALL | re.MULTILINE)
    for match in re.finditer(r"^(.*)(<!-- *plain\b.*)$", page, re.MULTILINE):
        row = page.count("\n", 0, match.start()) + 1
        paragraph = page[match.end() + 1 :].split("\n\n")[0].count("\n") + 2
        text.ignores[row] = (IGNORE.match(match[2])[1], range(row, row + (1 if match[1].strip() else paragraph)))
    text.prose = condensed(re.sub(r"<!--.*?-->", masked, page, flags=re.DOTALL))
    return text


def condensed(prose: str) -> str:
    """In lower case, and with one character for each run of code in a line, which takes a quarter of the time."""
    return re.sub(rf"[{CODE} ]*{CODE}[{CODE} ]*", CODE, prose.lower())


def masked(code: re.Match[str]) -> str:
    """As many characters in as many lines, that no phrase reaches across."""
    return re.sub(r"[^\n]", CODE, code[0])


def blank(mark: re.Match[str]) -> str:
    """As many spaces."""
    return " " * len(mark[0])


if __name__ == "__main__":
    sys.exit(main())
