"""A bench for syncs: a source, a warehouse file, and few words to sync and look."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from dw_orchestration.local.syncing import (
    Connector,
    SyncRequest,
    SyncResult,
    TargetTable,
    Warehouse,
    connector_for,
    run_sync,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_numbers = itertools.count()
# an instance of its own: starting one for each question takes longer than most syncs
_reader = duckdb.connect()
_reader.execute("SET TimeZone = 'UTC'")


@dataclass
class Lab:
    """A source and a warehouse file; tables land in the schema `lab` under their own names."""

    folder: Path
    connector: Connector
    warehouse: Warehouse
    cancelled: threading.Event = field(default_factory=threading.Event)
    progress: list[int] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The warehouse file."""
        return self.folder / "warehouse.duckdb"

    def request(self, table: str, **settings: Any) -> SyncRequest:
        """Return a full refresh, changed by `settings`."""
        usual: dict[str, Any] = {
            "job_id": f"job-{next(_numbers)}",
            "table": table,
            "target": TargetTable("lab", table),
            "sync_type": "full_refresh",
            "incremental_field": None,
            "incremental_field_type": None,
            "primary_keys": (),
            "lookback_seconds": None,
            "enabled_columns": None,
            "reset": False,
        }
        return SyncRequest(**(usual | settings))

    def sync(self, table: str, **settings: Any) -> SyncResult:
        """Run a full refresh, changed by `settings`."""
        return run_sync(
            self.request(table, **settings),
            self.connector,
            self.warehouse,
            on_progress=self.progress.append,
            cancelled=self.cancelled,
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse file, as another reader would."""
        _reader.execute(f"ATTACH '{self.file}' AS read_file (READ_ONLY); USE read_file")
        try:
            return _reader.execute(sql).fetchall()
        finally:
            _reader.execute("USE memory; DETACH read_file")

    def leftovers(self) -> list[Path]:
        """Return what lies in the staging folder."""
        return sorted((self.folder / "staging").glob("*"))


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[[Connector], Lab]:
    """``make_lab(connector)``: a lab with an empty warehouse."""

    def make(connector: Connector) -> Lab:
        folder = tmp_path / f"lab-{next(_numbers)}"
        warehouse = Warehouse(folder / "warehouse.duckdb", staging=folder / "staging")
        return Lab(folder, connector, warehouse)

    return make


@pytest.fixture
def job_inputs(postgres_database: Any) -> dict[str, Any]:
    """PostHog's connection fields for the test's database, schema `public`."""
    names = ("host", "port", "database", "user", "password")
    return {name: getattr(postgres_database, name) for name in names} | {"schema": "public"}


@pytest.fixture
def lab(make_lab: Callable[[Connector], Lab], job_inputs: dict[str, Any], tmp_path: Path) -> Lab:
    """A lab whose source is the test's Postgres database."""
    return make_lab(connector_for("Postgres", job_inputs, fixtures=tmp_path))
