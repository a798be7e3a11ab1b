"""Legal, unique and stable names: the same words in the Dagster UI, on the command line and in patterns.

PostHog allows almost any text as the name of a table and as a source's prefix; Dagster allows few characters in keys,
groups, ops and schedules. Everything that turns the one into the other is here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
_SHORT_ID_LENGTH = 8

KeyPath = tuple[str, ...]


# the words of a source come up again with each of its tables, and the names of tables in each source of a type
@lru_cache(maxsize=10_000)
def snake(name: str) -> str:
    """A lower-snake-case name that Dagster takes as a part of a key, a group or an op.

    Letters outside ASCII are spelled by their base letter where they have one. A name without any letter or digit is
    spelled by its code points, which keeps it apart from other such names.

    Example:
        >>> snake("GoogleAds"), snake("Größe (m²)"), snake("📦")
        ('google_ads', 'grosse_m2', 'u1f4e6')
    """
    ascii_name = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    words = _NOT_IN_A_NAME.sub("_", _WORD_BORDER.sub("_", ascii_name).lower()).strip("_")
    return words or "_".join(f"u{ord(character):x}" for character in name) or "unnamed"


def source_path(source_type: str, prefix: str | None) -> KeyPath:
    """The parts of an asset key that all tables of a source share: `posthog/<source type>[/<prefix>]`."""
    return ("posthog", snake(source_type), *([snake(prefix)] if prefix else []))


def source_slug(source_type: str, prefix: str | None) -> str:
    """The source in one word: `<source type>[_<prefix>]`."""
    return "_".join(source_path(source_type, prefix)[1:])


def table_path(table: str) -> KeyPath:
    """The parts of an asset key that name the table itself; a dot in the table's name starts a new part."""
    return tuple(snake(part) for part in table.split(".") if part) or (snake(table),)


def identifier(key_path: Sequence[str]) -> str:
    """The Python identifier that Dagster makes of an asset key, for ops and outputs.

    Two keys with the same identifier cannot be loaded together. The rule is that of Dagster's
    `AssetKey.to_python_identifier`.
    """
    return "__".join(key_path).replace("-", "_").replace(".", "_")


def colliding(key_paths: Iterable[Sequence[str]]) -> set[str]:
    """The identifiers that more than one of the keys has."""
    counts = Counter(identifier(key_path) for key_path in key_paths)
    return {name for name, count in counts.items() if count > 1}


def with_id(name: str, own_id: str) -> str:
    """The name with the end of an id, or with the whole id if the end is already there."""
    whole = snake(own_id)
    # the end, because PostHog's ids begin with the time: ids created in the same minute begin alike
    short = whole[-_SHORT_ID_LENGTH:]
    return f"{name}_{whole if name.endswith(f'_{short}') else short}"


def unique_names(wanted: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The names in their order; names that occur more than once get the end of their id."""
    unique = list(wanted)
    # a second round is needed only if a name equals another name with its id
    for _ in wanted:
        counts = Counter(unique)
        if len(counts) == len(unique):
            break
        unique = [
            name if counts[name] == 1 else with_id(name, own_id) for name, own_id in zip(unique, ids, strict=True)
        ]
    return unique
