"""Legal, unique and stable names for whatever PostHog allows in a name."""

from collections import Counter
from collections.abc import Iterable, Sequence

import dagster as dg

from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables import names
from dw_orchestration.tables.names import snake
from dw_orchestration.tables.snapshot import SourceSnapshot

SHORT_ID_LENGTH = 8


def source_path(source: SourceSnapshot) -> list[str]:
    """The parts of a key that all tables of a source share: `[<namespace>/]posthog/<source type>[/<prefix>]`."""
    return [*_namespace(source), *names.source_path(source.source_type, source.prefix)]


def source_slug(source: SourceSnapshot) -> str:
    """The source in one word, for groups, ops and schedules: `[<namespace>_]<source type>[_<prefix>]`."""
    return "_".join([*_namespace(source), names.source_slug(source.source_type, source.prefix)])


def table_name(source: SourceSnapshot, schema: Schema) -> str:
    """What a user types for a table, whatever the namespace: `<source type>[_<prefix>].<table in PostHog>`."""
    return f"{names.source_slug(source.source_type, source.prefix)}.{schema.name}"


def default_key(source: SourceSnapshot, schema: Schema) -> dg.AssetKey:
    """`[<namespace>/]posthog/<source type>[/<prefix>]/<table>`; dots in the table's name make parts of their own.

    The label is left out on purpose: relabelling a table must not make it another asset.
    """
    return dg.AssetKey([*source_path(source), *names.table_path(schema.name)])


def upstream_key(source: SourceSnapshot, schema: Schema) -> dg.AssetKey:
    """`[<namespace>/]<source type>/<prefix or host>/<table>`: the table that the rows come from."""
    source_type = snake(source.source_type)
    # `posthog` is where the synced tables are: a source of that name must not be upstream of itself
    root = f"{source_type}_source" if source_type == "posthog" else source_type
    return dg.AssetKey([*_namespace(source), root, snake(source.upstream), *names.table_path(schema.name)])


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


def unique_names(wanted: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The names in their order, those that occur more than once made unique by the end of their id."""
    unique = list(wanted)
    # a second round only if a name looks like another one with its id
    for _ in wanted:
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


def _namespace(source: SourceSnapshot) -> list[str]:
    return [source.namespace] if source.namespace else []
