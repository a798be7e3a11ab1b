r"""Text as people read it. PostHog's names and errors may hold anything, and a terminal or a page obeys some of it.

What people read goes through `visible` or `visible_lines`, and through `code` or `in_markdown` where Dagster renders
Markdown. What programs read keeps the text: JSON escapes it in its own way.
"""

import re
import unicodedata
from collections.abc import Iterable

# Markup anywhere, or at the start of a line. Dagster's pages make links of bare addresses too, even of escaped ones:
# backslashes do not help, and only code stays as it is.
_MARKUP = re.compile(
    r"[\\`*\[\]<>&|~@#]|(?<![^\W_])_|_(?![^\W_])|://|www\.|^(?:[-+=]|\d+[.)])",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    r"""The text in one line, with an escape for each character that a terminal obeys or that nobody sees.

    These are control characters, line breaks, overrides of the writing direction, characters without a width and those
    that Unicode does not define. All other text stays as it is, and so does a text that is visible already.

    Example:
        >>> print(visible("orders\x1b[2J\u202e"))
        orders\x1b[2J\u202e
    """
    return text if text.isprintable() else "".join(map(_visible_character, text))


def visible_lines(text: str) -> str:
    """As `visible`, in the lines of the text."""
    return "\n".join(map(visible, text.split("\n")))


def code(text: str) -> str:
    """The text as a span of code in Markdown, which shows every character and makes nothing of them."""
    shown = _in_one_line(text)
    fence = _fence(shown, least=1)
    padding = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{padding}{shown}{padding}{fence}" if shown else ""


def code_block(lines: Iterable[str]) -> str:
    """The lines as a block of code in Markdown, which none of them can end."""
    text = "\n".join(map(visible, lines))
    return f"{_fence(text, least=3)}text\n{text}\n{_fence(text, least=3)}"


def in_markdown(text: str) -> str:
    """The text for Markdown: as it is if it is only words, else as code, so that it becomes no link, image or HTML."""
    shown = _in_one_line(text)
    return code(shown) if _MARKUP.search(shown) else shown


class VisibleError(Exception):
    """An error whose text may quote PostHog's: as a string it is visible, and `text` has the characters themselves."""

    @property
    def text(self) -> str:
        """The text with every character as it came, for programs."""
        return super().__str__()

    def __str__(self) -> str:
        return visible_lines(self.text)


def _fence(text: str, *, least: int) -> str:
    """More backticks than there are in a row in the text."""
    longest = max(map(len, re.findall("`+", text))) if "`" in text else 0
    return "`" * max(least, longest + 1)


def _in_one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def _visible_character(character: str) -> str:
    kind = unicodedata.category(character)
    is_hidden = kind.startswith("C") or kind in {"Zl", "Zp"}
    return character.encode("unicode_escape").decode() if is_hidden else character
