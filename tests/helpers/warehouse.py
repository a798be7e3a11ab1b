"""An embedded warehouse in a separate process, and a small database that it syncs from."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import psycopg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from dw_orchestration.assets.build import build_posthog_assets
from dw_orchestration.posthog.enums import JobStatus
from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.warehouse import PostHogWarehouseResource
from dw_orchestration.tables.tables import DEFAULT_RESOURCE_KEY, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dagster._core.execution.plan.objects import StepRetryData

    from dw_orchestration.local.shop.postgres import DatabaseLogin
    from dw_orchestration.posthog.models import Job, Schema, Source
    from dw_orchestration.resources.warehouse import WarehouseResource
    from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

SHELF = """
    create table customers (id bigint primary key, name text);
    insert into customers select n, 'customer ' || n from generate_series(1, 7) n;
    create table products (id bigint primary key, price numeric(10, 2));
    insert into products select n, n * 1.5 from generate_series(1, 5) n;
    create table orders (id bigint primary key, total int, updated_at timestamptz not null default now());
    insert into orders
        select n, n * 10, now() - interval '1 hour' + n * interval '1 minute' from generate_series(1, 40) n;
"""
INCREMENTAL: dict[str, object] = {
    "sync_type": "incremental",
    "incremental_field": "updated_at",
    "incremental_field_type": "timestamp",
    "primary_key_columns": ["id"],
}
FULL: dict[str, object] = {"sync_type": "full_refresh"}
TABLES = {"customers": FULL, "products": FULL, "orders": INCREMENTAL}


class WarehouseProcess:
    """An embedded warehouse, started and reached like a user's."""

    def __init__(self, home: Path, *, fixtures: Path | None = None, shop: bool = False) -> None:
        self.home = home
        self.fixtures = fixtures
        self.resource = LocalWarehouse(home=str(home), shop=shop, fixtures=str(fixtures) if fixtures else None)
        self.endpoint = self.resource.ensure_running()
        self.client = self.resource.client()

    def stop(self) -> None:
        """End the process and see it gone."""
        self.client.close()
        self.resource.stop()

    def project(self, **settings: Any) -> PostHogWarehouseResource:
        """The warehouse as a PostHog project, with other settings where they are given."""
        own = {name: self.endpoint[name] for name in ("host", "project_id", "api_key")}
        return PostHogWarehouseResource(**(own | settings))

    def new_key(self, *scopes: str) -> str:
        """A new key with these scopes, made as a user makes one."""
        command = [sys.executable, "-m", "dw_orchestration.local", "key", "--home", str(self.home)]
        for scope in scopes:
            command += ["--scope", scope]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query of the synced tables finds; the file may be in the hands of a sync for a moment."""
        for _ in range(200):
            try:
                with duckdb.connect(self.endpoint["database"], read_only=True) as connection:
                    return connection.execute(sql).fetchall()
            except duckdb.IOException:
                continue
        raise AssertionError("The warehouse's file is never free.")

    def add_files(self, source_type: str, tables: dict[str, list[dict[str, object]]], **settings: object) -> str:
        """A source that is served from files, whose tables all have the same settings; its id."""
        assert self.fixtures is not None
        folder = self.fixtures / source_type
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        schemas = [{"name": name, "sync_type": "full_refresh", **settings} for name in tables]
        return self.client.create_source(source_type, {"schemas": schemas}, prefix=f"files_{uuid.uuid4().hex[:6]}")

    def add_shelf(
        self,
        database: DatabaseLogin,
        *,
        wait_until: Callable[..., Any],
        tables: dict[str, dict[str, object]] | None = None,
    ) -> Shelf:
        """A source with the tables of `SHELF`, once their first sync is over."""
        execute(database, SHELF)
        schemas = [{"name": name, "should_sync": True, **how} for name, how in (tables or TABLES).items()]
        login = {name: getattr(database, name) for name in ("host", "port", "database", "user", "password")}
        prefix = f"shelf_{uuid.uuid4().hex[:6]}"
        payload = {**login, "schema": "public", "schemas": schemas}
        source_id = self.client.create_source("Postgres", payload, prefix=prefix)
        shelf = Shelf(self, database, source_id=source_id, prefix=prefix, wait_until=wait_until)
        shelf.settle()
        return shelf


@dataclass
class Shelf:
    """A Postgres source of the test's own, and its tables as assets."""

    warehouse: WarehouseProcess
    database: DatabaseLogin
    source_id: str
    prefix: str
    wait_until: Callable[..., Any]
    _snapshot: WarehouseSnapshot | None = field(default=None, init=False)

    @property
    def snapshot(self) -> WarehouseSnapshot:
        """The state of this source alone, as it was when first asked for."""
        if self._snapshot is None:
            whole = self.warehouse.resource.take_snapshot()
            self._snapshot = whole.model_copy(update={"sources": (self._own(whole.sources),)})
        return self._snapshot

    @property
    def step(self) -> str:
        """The name of the step that syncs its tables."""
        return f"sync_postgres_{self.prefix}"

    def key(self, name: str) -> dg.AssetKey:
        """The asset key of a table."""
        return dg.AssetKey(["posthog", "postgres", self.prefix, name])

    def record(self, name: str) -> Schema:
        """A table as the API shows it now."""
        return next(schema for schema in self._source().schemas if schema.name == name)

    def jobs(self, *names: str) -> list[Job]:
        """The syncs so far, newest first."""
        return list(self.warehouse.client.list_jobs(self.source_id, schemas=names))

    def counts(self) -> Counter[str]:
        """How many syncs each table has had."""
        return Counter(job.table.name for job in self.jobs())

    def newest(self, name: str) -> Job:
        """A table's newest sync."""
        return self.jobs(name)[0]

    def running(self, name: str) -> Job | None:
        """A table's running sync."""
        return next((job for job in self.jobs(name) if job.status is JobStatus.RUNNING), None)

    def settle(self) -> None:
        """Wait until each of its tables has been synced and nothing is running."""
        enabled = {schema.name for schema in self._source().schemas if schema.should_sync}
        self.wait_until(lambda: self._is_quiet(enabled))

    @contextmanager
    def locked(self, *names: str) -> Iterator[None]:
        """Let each sync of these tables wait until the block ends."""
        with psycopg.connect(self.database.dsn) as connection:
            connection.execute(f"lock table {', '.join(names)} in access exclusive mode".encode())
            yield

    def materialize(
        self,
        *names: str,
        instance: dg.DagsterInstance,
        others: Sequence[dg.AssetsDefinition] = (),
        tags: dict[str, str] | None = None,
        resource: WarehouseResource | None = None,
        retry_policy: dg.RetryPolicy | None = None,
        **config: object,
    ) -> dg.ExecuteInProcessResult:
        """Materialize some tables, and the given assets; a failure is in the result."""
        return dg.materialize(
            [*build_posthog_assets(Tables(self.snapshot, include_disabled=True), retry_policy=retry_policy), *others],
            selection=[*(self.key(name) for name in names), *(asset.key for asset in others)],
            instance=instance,
            resources={DEFAULT_RESOURCE_KEY: resource or self.warehouse.resource},
            run_config={"ops": {self.step: {"config": {"poll_min_s": 0.2, **config}}}},
            tags=tags,
            raise_on_error=False,
        )

    def first_retry(self, name: str, *, instance: dg.DagsterInstance, retry_policy: dg.RetryPolicy) -> StepRetryData:
        """What Dagster notes down when the step of a table is to be tried again; the run is left there."""
        for event in self._execute(self._job(name, op_retry_policy=retry_policy), instance):
            if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY:
                return event.step_retry_data
        raise AssertionError("The step is not tried again.")

    def re_execute(self, run_id: str, name: str, *, instance: dg.DagsterInstance, **config: object) -> str:
        """Execute a run of a table again, with its config; how the step failed."""
        repeated = self._execute(self._job(name), instance, parent_run_id=run_id, root_run_id=run_id, config=config)
        (failed,) = (event for event in repeated if event.is_step_failure)
        return str(failed.step_failure_data.user_failure_data.description)

    def _job(self, name: str, **settings: Any) -> dg.JobDefinition:
        defs = dg.Definitions(
            assets=build_posthog_assets(Tables(self.snapshot, include_disabled=True)),
            jobs=[dg.define_asset_job("one_table", selection=[self.key(name)], **settings)],
            resources={DEFAULT_RESOURCE_KEY: self.warehouse.resource},
        )
        return defs.resolve_job_def("one_table")

    def _execute(
        self, job: dg.JobDefinition, instance: dg.DagsterInstance, *, config: Any = None, **settings: Any
    ) -> Iterator[dg.DagsterEvent]:
        ops = {self.step: {"config": {"poll_min_s": 0.2, **(config or {})}}}
        run_config = {"ops": ops, "execution": {"config": {"in_process": {}}}}
        run = instance.create_run_for_job(job, run_config=run_config, **settings)
        yield from execute_run_iterator(InMemoryJob(job), run, instance)

    def break_products(self) -> None:
        """Let every reader of the products fail in the midst of them, as a broken row does."""
        rows = "select n as id, 1 / (n - 3) as price from generate_series(1, 5) n"
        execute(self.database, f"alter table products rename to good_products; create view products as {rows}")

    def mend_products(self) -> None:
        """Undo `break_products`."""
        execute(self.database, "drop view products; alter table good_products rename to products")

    def remove(self) -> None:
        """Take the source from the warehouse, with all that was synced."""
        self.warehouse.client.delete_source(self.source_id)

    def _source(self) -> Source:
        return self.warehouse.client.get_source(self.source_id)

    def _own(self, sources: Sequence[SourceSnapshot]) -> SourceSnapshot:
        return next(source for source in sources if source.id == self.source_id)

    def _is_quiet(self, enabled: set[str]) -> bool:
        jobs = self.jobs()
        return enabled <= {job.table.name for job in jobs} and all(job.status is not JobStatus.RUNNING for job in jobs)


def execute(database: DatabaseLogin, sql: str) -> list[tuple[Any, ...]]:
    """Run statements in a database, commit, and return the rows that they give."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


def events(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
    """The events of a kind in a run's log."""
    return [event for event in result.all_events if event.event_type is kind]


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """The one line (or the lines) that a failed step ends with."""
    (event,) = events(result, dg.DagsterEventType.STEP_FAILURE)
    data = event.step_failure_data
    assert data.user_failure_data is not None, data.error
    return str(data.user_failure_data.description)


def log_of(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> str:
    """All that a run has logged, a line for each message."""
    return "\n".join(record.user_message for record in instance.all_logs(result.run_id))
