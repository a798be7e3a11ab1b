"""Which column at the source each column of a synced table comes from."""

import re
from collections import Counter
from collections.abc import Collection, Mapping

import dagster as dg

from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.table import Table

# each column takes some 200 bytes of every event, and Dagster's storage is what limits big runs
MOST_COLUMNS = 200
# PostHog's own columns, in every source
_OWN = ("_ph_", "_dlt_")
_REDUCED = str.maketrans("+*-@|", "xx_al")


def column_lineage(table: Table, record: Schema) -> dg.TableColumnLineage | None:
    """The origin of a synced table's columns, where PostHog names the columns at the source.

    Args:
        table: The synced table.
        record: The schema as PostHog showed it after the sync.

    Returns:
        None if nothing is known, or the table is too wide for its events.
    """
    synced = [column.name for column in record.table.columns] if record.table else []
    # a table that a translation gave the key of its origin, or no origin, has no lineage
    if len(synced) > MOST_COLUMNS or not table.origin_path or table.origin_path == table.key_path:
        return None
    origin = dg.AssetKey(list(table.origin_path))
    known = _origins(synced, [column.name for column in record.available_columns or ()])
    deps = {name: [dg.TableColumnDep(asset_key=origin, column_name=known[name])] for name in synced if name in known}
    return dg.TableColumnLineage(deps_by_column=deps) if deps else None


def normalised(name: str) -> str:
    """A column's name as PostHog gives it to the synced table: dlt's snake case.

    Example:
        >>> normalised("createdAt"), normalised("Net-Amount €"), normalised("2fa")
        ('created_at', 'net_amountx', '_2fa')
    """
    legal = re.sub(r"[^A-Za-z\d_]+", "_", name.strip().translate(_REDUCED))
    split = re.sub(r"([^_])([A-Z][a-z]+)", r"\1_\2", legal)
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", split).lower()
    split = f"_{split}" if split[:1].isdecimal() else split
    kept = split.rstrip("_")
    return re.sub(r"__+", "_", kept + "x" * (len(split) - len(kept)))


def _origins(synced: Collection[str], at_source: Collection[str]) -> Mapping[str, str]:
    """The column at the source by the synced one; a name that could be of two columns is left out."""
    exact = {name: name for name in synced if name in at_source}
    names = {name: normalised(name) for name in at_source}
    counts = Counter(names.values())
    # PostHog adds underscores to columns with the same normal name in the order of the source, which is not shown
    told_apart = any(count > 1 for count in counts.values())
    renamed = {} if told_apart else {to: name for name, to in names.items()}
    return {name: origin for name, origin in (renamed | exact).items() if not name.startswith(_OWN)}
