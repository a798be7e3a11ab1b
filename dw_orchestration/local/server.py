"""The embedded warehouse: state, workers, scheduler and API over one home folder."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from dw_orchestration.files import make_private_folder
from dw_orchestration.local import discovery
from dw_orchestration.local.api import create_app
from dw_orchestration.local.behaviours import Behaviours
from dw_orchestration.local.http_server import HOST, HttpServer, bind
from dw_orchestration.local.queries import Queries
from dw_orchestration.local.rows import StartedBy
from dw_orchestration.local.runner import Runner
from dw_orchestration.local.scheduler import Scheduler, utc_now
from dw_orchestration.local.services import Services
from dw_orchestration.local.store import Store
from dw_orchestration.local.syncing import SourceError, Warehouse, connector_for
from dw_orchestration.local.worker import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from dw_orchestration.local.rows import Schema, Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerEndpoint:
    """How to reach a running embedded warehouse; kept in `endpoint.json`."""

    host: str
    project_id: str
    api_key: str = field(repr=False)
    pid: int
    database: str


class WarehouseServer:
    """PostHog's data warehouse in one process. One per home folder; the caller sees to that.

    Args:
        home: folder of all that is kept.
        fixtures: folder of the files that replace sources other than Postgres.
        port: 0 takes a free one.
        shop: whether to start the shop and sync it.
        rate_limit_per_minute: calls of one key before 429; None for no limit.
        now: the time of day, for schedules and for what is written down.
        threads: how many syncs run at once.
        poll_every_s: how often the scheduler looks for what is due; None for never (a test does it).

    Example:
        >>> warehouse = WarehouseServer(Path("home"))
        >>> endpoint = warehouse.start()
        >>> warehouse.stop()
    """

    def __init__(
        self,
        home: Path,
        *,
        fixtures: Path | None = None,
        port: int = 0,
        shop: bool = False,
        rate_limit_per_minute: int | None = None,
        now: Callable[[], datetime] = utc_now,
        threads: int = 4,
        poll_every_s: float | None = 1.0,
    ) -> None:
        self._home = home
        self._fixtures = fixtures or home / "fixtures"
        self._port = port
        self._shop = shop
        self._rate_limit_per_minute = rate_limit_per_minute
        self._now = now
        self._threads = threads
        self._poll_every_s = poll_every_s
        self._open = ExitStack()
        self._endpoint_file = home / "endpoint.json"
        self._endpoint_text = ""
        self._cut_off: list[Schema] = []
        self.services: Services
        self.scheduler: Scheduler

    def start(self) -> ServerEndpoint:
        """Settle what an earlier process left, start what it did not finish, then answer calls, sync and schedule.

        Raises:
            OSError: the port is taken.
            SourceError: another process keeps the warehouse file.
        """
        make_private_folder(self._home)
        with ExitStack() as undo:
            listener = self._listener()
            undo.callback(listener.close)
            self.services = self._services(undo)
            project = self.services.store.ensure_project()
            if self._shop:
                self._open_shop(undo, project_id=project.id)
            self.services.runner.start()
            undo.callback(self.services.runner.stop)
            for schema in self._cut_off:
                self.services.runner.trigger(schema, started_by=StartedBy.SCHEDULE)
            self._start_scheduler(undo)
            app = create_app(self.services, rate_limit_per_minute=self._rate_limit_per_minute)
            server = HttpServer(app, listener=listener)
            server.start()
            undo.callback(server.stop)
            endpoint = self._endpoint(f"http://{HOST}:{listener.getsockname()[1]}", project_id=project.id)
            self._open = undo.pop_all()
        logger.info("Answering at %s, home is %s", endpoint.host, self._home)
        return endpoint

    def stop(self) -> None:
        """End the running syncs as Failed and stop everything. Twice does no harm."""
        self._open.close()

    def keep_endpoint(self) -> None:
        """Write `endpoint.json` again if it is not what this process wrote: without it, no new client finds the way."""
        with suppress(OSError):
            if not self._endpoint_file.is_file() or self._endpoint_file.read_bytes() != self._endpoint_text.encode():
                _write_private(self._endpoint_file, self._endpoint_text)

    def _listener(self) -> socket.socket:
        """A socket at the given port, or else at that of the last start, where clients that outlived it find it."""
        last = self._last_endpoint().get("host")
        if not self._port and isinstance(last, str) and (port := last.rpartition(":")[2]).isdecimal():
            # taken by another program by now, or not a port at all
            with suppress(OSError, OverflowError):
                return bind(int(port))
        return bind(self._port)

    def _services(self, undo: ExitStack) -> Services:
        state = self._home / "state.sqlite"
        if state.is_file() and state.stat().st_size == 0 and (self._home / "warehouse.duckdb").exists():
            raise sqlite3.DatabaseError("it is empty, although tables have been synced")
        store = Store(state)
        undo.callback(store.close)
        warehouse = Warehouse(self._home / "warehouse.duckdb", staging=self._home / "staging")
        connect = partial(connector_for, fixtures=self._fixtures)
        behaviours = Behaviours()
        worker = Worker(store, warehouse=warehouse, connect=connect, behaviours=behaviours, now=self._now)
        self._cut_off = worker.settle()
        runner = Runner(store, worker=worker, behaviours=behaviours, now=self._now, threads=self._threads)
        queries = Queries(warehouse)
        undo.callback(queries.stop)
        return Services(
            store=store,
            warehouse=warehouse,
            runner=runner,
            queries=queries,
            behaviours=behaviours,
            connect=connect,
            now=self._now,
        )

    def _open_shop(self, undo: ExitStack, *, project_id: int) -> None:
        from dw_orchestration.local.shop import Shop
        from dw_orchestration.local.shop_source import connect_shop

        shop = Shop(self._home / "shop")
        connection = shop.start()
        undo.callback(shop.stop)
        connect_shop(self.services, connection, project_id=project_id)

    def _start_scheduler(self, undo: ExitStack) -> None:
        runner = self.services.runner
        self.scheduler = Scheduler(
            self.services.store,
            runs=runner,
            discover=lambda source: runner.submit(partial(self._discover, source)),
            now=self._now,
            poll_every_s=self._poll_every_s,
        )
        self.scheduler.start()
        undo.callback(self.scheduler.stop)

    def _discover(self, source: Source) -> None:
        try:
            discovery.refresh(self.services, source)
        except SourceError as error:
            logger.warning("The tables of source %s could not be listed: %s", source.id, error)

    def _endpoint(self, host: str, *, project_id: int) -> ServerEndpoint:
        endpoint = ServerEndpoint(
            host=host,
            project_id=str(project_id),
            api_key=self._known_key() or self.services.store.add_key(scopes=["*"], at=self._now()),
            pid=os.getpid(),
            database=str((self._home / "warehouse.duckdb").resolve()),
        )
        self._endpoint_text = json.dumps(asdict(endpoint), indent=2)
        _write_private(self._endpoint_file, self._endpoint_text)
        return endpoint

    def _known_key(self) -> str | None:
        """The key of the last start, so that clients that outlived it can continue."""
        key = self._last_endpoint().get("api_key")
        return key if isinstance(key, str) and self.services.store.api_key(key) else None

    def _last_endpoint(self) -> dict[str, object]:
        """What the process before this one wrote; nothing if it is damaged."""
        try:
            found = json.loads(self._endpoint_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
