"""Texts that a terminal or a page would obey, and what is left of them."""

from __future__ import annotations

import unicodedata

from markdown_it import MarkdownIt

HIDDEN = "\x1b]0;owned\x07\u202e\x9b2J"
MARKUP = "[log in](http://evil.example) ![x](http://evil.example/x.png) <img src=x onerror=alert(1)> www.evil.example |"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# what the texts of this package are made of
OWN = {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
BLOCKS = {"paragraph", "inline", "bullet_list", "list_item", "table", "thead", "tbody", "tr", "th", "td"}


def hidden_in(text: str) -> list[str]:
    """The characters that a terminal obeys or nobody sees."""
    return [each for each in text if each != "\n" and unicodedata.category(each)[0] in "CZ" and each != " "]


def obeyed_in(markdown: str) -> list[str]:
    """What Dagster's pages make of a text other than words and code, bare addresses included."""
    blocks = MARKDOWN.parse(markdown)
    inline = [child for block in blocks for child in block.children or ()]
    bare = [each.content for each in inline if each.type == "text" and any(a in each.content for a in ("://", "www."))]
    kinds = {each.type for each in inline} - OWN
    kinds |= {each.type.removesuffix("_open").removesuffix("_close") for each in blocks} - BLOCKS
    return [*sorted(kinds), *bare]
