"""An event log whose process is killed, with all that it has started, once it has stored some materializations."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Self

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

if TYPE_CHECKING:
    from dagster._serdes import ConfigurableClassData

# the variable that has their number; without it nothing is killed
DIES_AFTER = "DIES_AFTER"


class DyingStorage(SqliteEventLogStorage):
    """Dagster's own, in SQLite."""

    _stored = 0

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: dict[str, Any]) -> Self:
        """What an instance makes of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store one, and perhaps die."""
        super().store_event(event)
        if event.dagster_event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._stored += 1
            if self._stored == int(os.environ.get(DIES_AFTER, "0")):
                os.killpg(0, signal.SIGKILL)
