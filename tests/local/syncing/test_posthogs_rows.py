"""Random tables with random histories, against a model of PostHog's rules that knows nothing of the code."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dw_orchestration.local.syncing import REPEATED_KEY, SourceError
from tests.helpers.rows_model import TableModel

if TYPE_CHECKING:
    from conftest import Lab

tables = itertools.count()
BIG = 5_000_000_000
DAYS = (date(1969, 7, 20), date(1970, 1, 1), date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3), date(2024, 2, 1))
MOMENTS = tuple(datetime(day.year, day.month, day.day) for day in DAYS)  # noqa: DTZ001 - a column without a zone

# declared type: PostHog's type, and values in order; the second is the initial one
CURSORS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "bigint": ("integer", (-7, 0, 1, 2, 3, BIG)),
    "numeric(12,2)": ("numeric", tuple(map(Decimal, ("-0.01", "0.00", "0.01", "1.50", "1.51", "99.00")))),
    "date": ("date", DAYS),
    "timestamp": ("timestamp", MOMENTS),
    "timestamptz": ("datetime", tuple(moment.replace(tzinfo=UTC) for moment in MOMENTS)),
}

ids = st.sampled_from((None, 1, 2, 3, 4))
# which of the six values, or none: small numbers of values give ties and late rows
moments = st.sampled_from((None, 0, 1, 2, 2, 3, 3, 4, 5))
values = st.sampled_from((None, 1, 2, BIG))
steps = st.one_of(
    st.tuples(st.just("put"), ids, moments, values),
    st.tuples(st.just("put"), ids, moments, values),
    st.tuples(st.just("repeat"), ids, moments, values),
    st.tuples(st.just("delete"), ids),
    st.tuples(st.sampled_from(("add", "drop", "widen"))),
    st.tuples(st.sampled_from(("sync", "sync", "sync", "reset"))),
)


class History:
    """Does each step at the source and in the model, and compares after each sync."""

    def __init__(self, lab: Lab, database: Any, *, declared: str, sync_type: str) -> None:
        self.field_type, self.moments = CURSORS[declared]
        self.lab, self.database, self.sync_type = lab, database, sync_type
        self.table = f"t{next(tables)}"
        self.types = {"id": "int", "at": declared, "v": "int"}
        self.model = TableModel(self.moments[1], declared == "date", self.types)
        database.execute(f"create table {self.table} (id int, at {declared}, v int)")

    def do(self, step: tuple[Any, ...]) -> None:
        """Do one step."""
        getattr(self, step[0])(*step[1:])

    def put(self, key: int | None, moment: int | None, value: int | None) -> None:
        """Write a row over those with its key, or add it."""
        if not any(row["id"] == key for row in self.model.source):
            self.repeat(key, moment, value)
            return
        at, value = self._at(moment), self._fitting(value)
        self.database.execute(
            f"update {self.table} set at = %s, v = %s where id is not distinct from %s", (at, value, key)
        )
        for row in self.model.source:
            if row["id"] == key:
                row |= {"at": at, "v": value}

    def repeat(self, key: int | None, moment: int | None, value: int | None) -> None:
        """Add a row, though there may be one with its key."""
        row = {"id": key, "at": self._at(moment), "v": self._fitting(value)}
        self.database.execute(f"insert into {self.table} (id, at, v) values (%(id)s, %(at)s, %(v)s)", row)
        self.model.source.append(row)

    def delete(self, key: int | None) -> None:
        """Remove the rows of a key."""
        self.database.execute(f"delete from {self.table} where id is not distinct from %s", (key,))
        self.model.source = [row for row in self.model.source if row["id"] != key]

    def add(self) -> None:
        """Add a column that is 7 in each row."""
        if "extra" not in self.types:
            self.database.execute(f"alter table {self.table} add column extra int default 7")
            self._retype(self.types | {"extra": "int"})
        for row in self.model.source:
            row.setdefault("extra", 7)

    def drop(self) -> None:
        """Drop that column again."""
        self.database.execute(f"alter table {self.table} drop column if exists extra")
        self._retype({name: type_ for name, type_ in self.types.items() if name != "extra"})
        for row in self.model.source:
            row.pop("extra", None)

    def widen(self) -> None:
        """Let larger values in."""
        self.database.execute(f"alter table {self.table} alter v type bigint")
        self._retype(self.types | {"v": "bigint"})

    def sync(self, *, reset: bool = False) -> None:
        """Sync, and compare."""
        if "extra" in self.types:
            self.add()  # rows that came since have the default as well
        scratch = reset or self.model.resets_itself
        assert self.model.sync(self.sync_type, reset=reset) == self._synced(reset=scratch)
        names = sorted(self.model.stored_types)
        found = self._stored()
        assert Counter(tuple(row[name] for name in names) for row in self.model.expected()) == found

    def reset(self) -> None:
        """Sync from scratch, and compare."""
        self.sync(reset=True)

    def _synced(self, *, reset: bool) -> int | str:
        cursor = {"incremental_field": "at", "incremental_field_type": self.field_type, "primary_keys": ("id",)}
        try:
            return self.lab.sync(self.table, sync_type=self.sync_type, **cursor, reset=reset).rows_synced
        except SourceError as error:
            if str(error) == REPEATED_KEY:
                return "repeated key"
            return "widened" if error.cured_by_reset else str(error)

    def _stored(self) -> Counter[tuple[Any, ...]]:
        if self.model.stored is None:
            return Counter()
        names = ", ".join(f'"{name}"' for name in sorted(self.model.stored_types))
        rows = self.lab.query(f"select {names} from lab.{self.table}")
        return Counter(tuple(_in_utc(value) for value in row) for row in rows)

    def _at(self, moment: int | None) -> Any:
        return None if moment is None else self.moments[moment]

    def _fitting(self, value: int | None) -> int | None:
        return 3 if value == BIG and self.types["v"] == "int" else value

    def _retype(self, types: dict[str, str]) -> None:
        self.types = self.model.types = types


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


@pytest.mark.parametrize("sync_type", ["full_refresh", "incremental", "append"])
@settings(max_examples=4, report_multiple_bugs=False, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(declared=st.sampled_from(sorted(CURSORS)), history=st.lists(steps, min_size=4, max_size=16))
def test_any_history_leaves_what_posthog_leaves(
    lab: Lab, postgres_database: Any, *, sync_type: str, declared: str, history: list[tuple[Any, ...]]
) -> None:
    """After inserts, updates, late rows, ties, NULLs, deletions and changed columns, the table is PostHog's."""
    table = History(lab, postgres_database, declared=declared, sync_type=sync_type)
    for step in [*history, ("sync",), ("sync",)]:
        table.do(step)
