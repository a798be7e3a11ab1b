"""The laws of text as people read it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dw_orchestration.text import VisibleError, code, in_markdown, visible, visible_lines

# letters and hostile characters in about equal parts, since hypothesis alone rarely writes a link
HOSTILE = "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\u200b\u200d\u2028\u202e\u2066\ufeff\U000e0041\ud800"
MARKUP = "`*_[]()<>!|~#&\\:/.@-+=1 "
TEXTS = st.one_of(
    st.text(),
    st.text(st.sampled_from("ab é" + HOSTILE)),
    st.text(st.sampled_from("ab" + MARKUP + "\n")),
    st.lists(
        st.sampled_from(
            [
                "[a](http://e.example)",
                "![i](x)",
                "<img src=x>",
                "http://e.example",
                "www.e.example",
                "a@e.example",
                "&lt;b&gt;",
                "# h",
                "- l",
                "1. n",
                "```",
                "a_b",
                "_a_",
                "| a | b |",
                "|---|",
                " ",
                "\n",
                "word",
                "===",
                "\\",
            ]
        )
    ).map("".join),
)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def is_hidden(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind[0] == "C" or kind in {"Zl", "Zp"}


@given(TEXTS)
def test_nothing_hidden_is_left_in_visible_text(text) -> None:
    """No character is left that a terminal obeys or nobody sees; lines stay only where they are asked for."""
    assert [] == [each for each in visible(text) if is_hidden(each)]
    assert [] == [each for each in visible_lines(text) if is_hidden(each) and each != "\n"]
    assert text.count("\n") == visible_lines(text).count("\n")


@given(TEXTS)
def test_visible_text_stays_as_it_is(text) -> None:
    """Only hidden characters change, so text may be made visible twice."""
    assert visible(text) == visible(visible(text))
    assert text == visible(text) or any(map(is_hidden, text))
    assert [each for each in text if not is_hidden(each)] == _without_escapes(text)


def _without_escapes(text: str) -> list[str]:
    shown, rest = [], visible(text)
    for character in text:
        escape = visible(character)
        assert rest.startswith(escape)
        rest = rest.removeprefix(escape)
        shown += [] if is_hidden(character) else [escape]
    return shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("a\nb\r\tc\u2028", r"a\nb\r\tc\u2028"),
        ("\U000e0041\ud800\u200b", r"\U000e0041\ud800\u200b"),
        (r"C:\data → Größe (m²) 日本 📦", r"C:\data → Größe (m²) 日本 📦"),
    ],
)
def test_escapes_are_those_of_python(text, expected) -> None:
    """People know these escapes, and other letters need none."""
    assert expected == visible(text)


@given(TEXTS)
@example("http://e.example")
def test_markdown_shows_the_text_and_makes_nothing_of_it(text) -> None:
    """Markdown makes one paragraph with exactly the visible text: no link, no image, no HTML and no heading."""
    expected = visible(" ".join(text.split()))
    for shown in (code(text), in_markdown(text)):
        kinds, content = _rendered(f"Words. {shown}"), _rendered(shown)
        assert {"text", "code_inline"} >= set(kinds[0]) | set(content[0])
        assert (f"Words. {expected}".strip(), expected) == (kinds[1].strip(), content[1])


@given(TEXTS)
def test_addresses_are_code(text) -> None:
    """Dagster's pages make links of bare addresses in any text but code."""
    prose = in_markdown(text)
    is_code = prose.startswith("`")
    assert is_code or not any(mark in prose.lower() for mark in ("://", "www.", "@"))


def _rendered(markdown: str) -> tuple[list[str], str]:
    blocks = MARKDOWN.parse(markdown)
    inline = [child for block in blocks for child in block.children or ()]
    assert {"paragraph_open", "inline", "paragraph_close"} >= {block.type for block in blocks}
    return [child.type for child in inline], "".join(child.content for child in inline)


@given(TEXTS)
def test_errors_are_visible_and_keep_their_text(text) -> None:
    """People read the escapes; a program gets the characters."""
    error = VisibleError(text)
    assert (visible_lines(text), text) == (str(error), error.text)
