"""PostHog's rules for the rows of a table, on plain Python values: the other opinion about what a sync leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LARGEST_INT = 2**31 - 1

Row = dict[str, Any]


@dataclass
class TableModel:
    """A table at the source, and what the syncs made of it in the warehouse.

    `initial` is the value behind which the first sync reads, `reads_its_last_value_again` is true for dates.
    `types` are those of the source's columns, `stored_types` those of the warehouse's.
    """

    initial: Any
    reads_its_last_value_again: bool
    types: dict[str, str]
    source: list[Row] = field(default_factory=list)
    stored: list[Row] | None = None
    stored_types: dict[str, str] = field(default_factory=dict)
    cursor: Any = None
    resets_itself: bool = False

    def sync(self, sync_type: str, *, reset: bool) -> int | str:
        """Sync the table; the number of rows that were read, or how the sync failed."""
        reset = reset or self.resets_itself
        if sync_type == "full_refresh":
            return self._replace(self.source)
        if sync_type == "incremental" and self._repeats_a_key():
            return "repeated key"
        arriving = self._rows_to_read(from_scratch=reset)
        if reset or self.stored is None:
            self.cursor, self.resets_itself = None, False
            self._replace(arriving)
        elif not self._all_fit(arriving):
            self.resets_itself = True
            return "widened"
        else:
            self._add(arriving, replaces=sync_type == "incremental")
        self.cursor = max(
            [row["at"] for row in arriving] + ([] if self.cursor is None else [self.cursor]), default=None
        )
        return len(arriving)

    def expected(self) -> list[Row]:
        """The rows of the warehouse, with every column that it has."""
        return [{name: row.get(name) for name in self.stored_types} for row in self.stored or []]

    def _repeats_a_key(self) -> bool:
        return len({row["id"] for row in self.source}) < len(self.source)

    def _rows_to_read(self, *, from_scratch: bool) -> list[Row]:
        known = [row for row in self.source if row["at"] is not None]
        if from_scratch or self.cursor is None:
            return [row for row in known if row["at"] > self.initial]
        if self.reads_its_last_value_again:
            return [row for row in known if row["at"] >= self.cursor]
        return [row for row in known if row["at"] > self.cursor]

    def _all_fit(self, arriving: list[Row]) -> bool:
        return self.stored_types["v"] != "int" or all((row["v"] or 0) <= LARGEST_INT for row in arriving)

    def _replace(self, arriving: list[Row]) -> int:
        self.stored, self.stored_types = [dict(row) for row in arriving], dict(self.types)
        return len(arriving)

    def _add(self, arriving: list[Row], *, replaces: bool) -> None:
        self.stored_types = self.types | self.stored_types
        ids = {row["id"] for row in arriving} if replaces else set()
        kept = [row for row in self.stored or [] if row["id"] not in ids]
        self.stored = kept + [dict(row) for row in arriving]
