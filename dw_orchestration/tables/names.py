"""What people call a source and a table: the same words in the Dagster UI, on the command line and in patterns."""

import re
import unicodedata

_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")


def snake(name: str) -> str:
    """A lower-snake-case name that Dagster takes as a part of a key, a group or an op.

    Letters beyond ASCII are spelled by their base letter where they have one; a name with no letter or digit left is
    spelled by its code points, so that it stays told apart from others.

    Example:
        >>> snake("GoogleAds"), snake("Größe (m²)"), snake("📦")
        ('google_ads', 'grosse_m2', 'u1f4e6')
    """
    ascii_name = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    words = _NOT_IN_A_NAME.sub("_", _WORD_BORDER.sub("_", ascii_name).lower()).strip("_")
    return words or "_".join(f"u{ord(character):x}" for character in name) or "unnamed"


def source_path(source_type: str, prefix: str | None) -> list[str]:
    """The parts of a key that all tables of a source share: `posthog/<source type>[/<prefix>]`."""
    return ["posthog", snake(source_type), *([snake(prefix)] if prefix else [])]


def source_slug(source_type: str, prefix: str | None) -> str:
    """The source in one word: `<source type>[_<prefix>]`."""
    return "_".join(source_path(source_type, prefix)[1:])


def table_path(table: str) -> list[str]:
    """The parts of a key that are the table's own; dots in its name make parts."""
    return [snake(part) for part in table.split(".") if part] or [snake(table)]
