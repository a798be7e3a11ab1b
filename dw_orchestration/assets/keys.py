"""Legal, unique and stable names for whatever PostHog allows in a name."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import dagster as dg

from dw_orchestration.posthog.models import Schema
from dw_orchestration.resources.snapshot import SourceSnapshot

_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
SHORT_ID_LENGTH = 8


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


def source_path(source: SourceSnapshot) -> list[str]:
    """The parts of a key that all tables of a source share: `posthog/<source type>[/<prefix>]`."""
    return ["posthog", snake(source.source_type), *([snake(source.prefix)] if source.prefix else [])]


def source_slug(source: SourceSnapshot) -> str:
    """The source in one word, for groups, ops and schedules: `<source type>[_<prefix>]`."""
    return "_".join(source_path(source)[1:])


def default_key(source: SourceSnapshot, schema: Schema) -> dg.AssetKey:
    """`posthog/<source type>[/<prefix>]/<table>`; dots in the table's name make parts of their own.

    The label is left out on purpose: relabelling a table must not make it another asset.
    """
    return dg.AssetKey([*source_path(source), *_table_path(schema)])


def upstream_key(source: SourceSnapshot, schema: Schema) -> dg.AssetKey:
    """`<source type>/<prefix or host>/<table>`: the table that the rows come from."""
    source_type = snake(source.source_type)
    # `posthog` is where the synced tables are: a source of that name must not be upstream of itself
    root = f"{source_type}_source" if source_type == "posthog" else source_type
    return dg.AssetKey([root, snake(source.upstream), *_table_path(schema)])


def told_apart(key: dg.AssetKey, own_id: str) -> dg.AssetKey:
    """The key made its schema's own by the end of the schema's id, or by all of it if the end is there already."""
    *path, last = key.path
    return dg.AssetKey([*path, _with_id(last, own_id)])


def colliding(keys: Iterable[dg.AssetKey]) -> set[str]:
    """The identifiers that more than one of the keys would get: Dagster joins the parts of a key with `__`."""
    counts = Counter(identifier(key) for key in keys)
    return {name for name, count in counts.items() if count > 1}


def identifier(key: dg.AssetKey) -> str:
    """The Python identifier that Dagster makes of a key."""
    return key.to_python_identifier()


def unique_names(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The names in their order, those that occur more than once made unique by the end of their id."""
    unique = list(names)
    # a second round only if a name looks like another one with its id
    for _ in names:
        counts = Counter(unique)
        if len(counts) == len(unique):
            break
        unique = [
            name if counts[name] == 1 else _with_id(name, own_id) for name, own_id in zip(unique, ids, strict=True)
        ]
    return unique


def _with_id(name: str, own_id: str) -> str:
    whole = snake(own_id)
    # the end, because PostHog's ids begin with the time: those of one minute begin alike
    short = whole[-SHORT_ID_LENGTH:]
    return f"{name}_{whole if name.endswith(f'_{short}') else short}"


def _table_path(schema: Schema) -> list[str]:
    return [snake(part) for part in schema.name.split(".") if part] or [snake(schema.name)]
