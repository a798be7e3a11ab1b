"""A simulated PostHog with many tables, whose syncs only take a given time and import nothing.

It answers what PostHog's external data API answers about sources, schemas and jobs, from memory and on loopback, so
that a measurement shows what a client asks and when it learns of an end, without the load of a real sync. Prints its
address as one line of JSON, serves what it has counted at `/_stats`, and ends when its standard input is closed.
Example: `python bench/stand_in.py --sources 50 --tables 1 --sync-seconds 20`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import socket
import sys
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from world import Plan, make_sources

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PROJECT = "/api/projects/{project_id}"
JOBS_SHOWN = 50
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOT_FOUND = {"type": "invalid_request", "code": "not_found", "detail": "Not found.", "attr": None}


class Api:
    """The endpoints, over sources that are made once."""

    def __init__(self, plan: Plan) -> None:
        sources = make_sources(plan, now=_now())
        self.sources = {source.id: source for source in sources}
        self.tables = {table.id: table for source in sources for table in source.tables}
        self.counts: Counter[str] = Counter()
        self._start_delay_s = plan.start_delay_s

    def app(self) -> FastAPI:
        """The endpoints at their paths."""
        app = FastAPI(openapi_url=None)
        sources, schemas = f"{PROJECT}/external_data_sources", f"{PROJECT}/external_data_schemas"
        app.add_api_route(f"{sources}/", self.list_sources)
        app.add_api_route(f"{sources}/{{source_id}}/", self.get_source)
        app.add_api_route(f"{sources}/{{source_id}}/jobs/", self.list_jobs)
        app.add_api_route(f"{schemas}/", self.list_schemas)
        app.add_api_route(f"{schemas}/{{schema_id}}/", self.get_schema)
        app.add_api_route(f"{schemas}/{{schema_id}}/", self.update_schema, methods=["PATCH"])
        app.add_api_route(f"{schemas}/{{schema_id}}/reload/", self.reload, methods=["POST"])
        app.add_api_route(f"{schemas}/{{schema_id}}/cancel/", self.cancel, methods=["POST"])
        app.add_api_route("/_stats", self.stats)
        return app

    async def list_sources(self, request: Request) -> Response:
        """Sources, newest first, with trimmed schemas."""
        now = _now()
        newest_first = sorted(self.sources.values(), key=lambda source: source.created_at, reverse=True)
        return _page(request, newest_first, lambda source: source.view(now, is_listed=True))

    async def get_source(self, source_id: str) -> Response:
        """A source with its schemas in full."""
        source = self.sources.get(source_id)
        return JSONResponse(source.view(_now(), is_listed=False)) if source else _not_found()

    async def list_jobs(self, source_id: str, request: Request) -> Response:
        """A bare array, newest first, of 50 at most; `schemas` are names."""
        now, query = _now(), request.query_params
        if source_id not in self.sources:
            return _not_found()
        jobs = self.sources[source_id].jobs(now)
        if "after" in query:
            jobs = [job for job in jobs if job.created_at > datetime.fromisoformat(query["after"])]
        if "before" in query:
            jobs = [job for job in jobs if job.created_at < datetime.fromisoformat(query["before"])]
        if names := set(query.getlist("schemas")):
            jobs = [job for job in jobs if job.table.name in names]
        return JSONResponse([job.view(now) for job in jobs[:JOBS_SHOWN]])

    async def list_schemas(self, request: Request) -> Response:
        """All schemas in full, which do not name their source."""
        now = _now()
        return _page(request, list(self.tables.values()), lambda table: table.view(now))

    async def get_schema(self, schema_id: str) -> Response:
        """One schema."""
        table = self.tables.get(schema_id)
        return JSONResponse(table.view(_now())) if table else _not_found()

    async def update_schema(self, schema_id: str) -> Response:
        """Nothing can be changed here; a client asks this to learn its scope."""
        if schema_id not in self.tables:
            return _not_found()
        refusal = {"type": "invalid_request", "code": "method_not_allowed", "detail": 'Method "PATCH" not allowed.'}
        return JSONResponse({**refusal, "attr": None}, status_code=405)

    async def reload(self, schema_id: str) -> Response:
        """200 and nothing else, whether it starts a sync or is dropped."""
        table = self.tables.get(schema_id)
        if table is None:
            return _not_found()
        taken = table.trigger(_now(), start_delay_s=self._start_delay_s)
        self.counts["started" if taken else "dropped"] += 1
        return Response()

    async def cancel(self, schema_id: str) -> Response:
        """Cancel the latest job."""
        table = self.tables.get(schema_id)
        if table is None:
            return _not_found()
        if not table.cancel(_now()):
            return JSONResponse({"detail": "No running sync to cancel."}, status_code=400)
        return Response()

    async def stats(self) -> Response:
        """What was counted, and when jobs began and ended by this clock."""
        now = _now()
        jobs = [job for source in self.sources.values() for job in source.jobs(now)]
        ends = {job.id: job.ends_at.timestamp() for job in jobs if job.ends_at <= now}
        starts = {job.id: job.created_at.timestamp() for job in jobs}
        cancelled = [job.id for job in jobs if job.error]
        stats = {"counts": self.counts, "job_starts": starts, "job_ends": ends, "cancelled": cancelled}
        return JSONResponse(stats)


class RateLimit:
    """So many requests in any minute, as PostHog's throttle counts: refused ones do not count."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._taken: deque[float] = deque()

    def wait_s(self) -> int:
        """0 if the request may pass, else after how many seconds to come again."""
        now = time.monotonic()
        while self._taken and self._taken[0] <= now - 60:
            self._taken.popleft()
        if self._per_minute and len(self._taken) >= self._per_minute:
            return math.ceil(self._taken[0] + 60 - now)
        self._taken.append(now)
        return 0


class Arrivals:
    """How many requests arrived within the last minute."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def more(self) -> int:
        """Count another one, and return how many there are."""
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] <= now - 60:
            self._times.popleft()
        return len(self._times)


class Counted:
    """Counts what comes in, takes its time, and refuses what is too much."""

    def __init__(self, app: ASGIApp, *, counts: Counter[str], limit: RateLimit, latency_s: float) -> None:
        self._app = app
        self._counts = counts
        self._limit = limit
        self._latency_s = latency_s
        self._arrived = Arrivals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        self._counts["most_in_60_s"] = max(self._counts["most_in_60_s"], self._arrived.more())
        self._counts["reload" if path.endswith("/reload") else "other"] += 1
        self._counts[f"{scope['method']} {UUID.sub('{id}', path.split('/', 4)[-1])}"] += 1
        await asyncio.sleep(self._latency_s)
        if wait_s := self._limit.wait_s():
            self._counts["throttled"] += 1
            await _throttled(wait_s)(scope, receive, send)
            return
        # with and without a slash at the end is the same to PostHog
        await self._app({**scope, "path": f"{path}/"}, receive, send)


def _page(request: Request, rows: list[Any], view: Any) -> Response:
    limit, offset = int(request.query_params.get("limit", 100)), int(request.query_params.get("offset", 0))
    following = request.url.include_query_params(offset=offset + limit)
    shown = [view(row) for row in rows[offset : offset + limit]]
    more = str(following) if offset + limit < len(rows) else None
    return JSONResponse({"count": len(rows), "next": more, "previous": None, "results": shown})


def _not_found() -> Response:
    return JSONResponse(NOT_FOUND, status_code=404)


def _throttled(wait_s: int) -> Response:
    detail = f"Request was throttled. Expected available in {wait_s} seconds."
    body = {"type": "throttled_error", "code": "throttled", "detail": detail, "attr": None}
    return JSONResponse(body, status_code=429, headers={"Retry-After": str(wait_s)})


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--tables", type=int, default=10, help="of each source")
    parser.add_argument("--sync-seconds", type=float, default=20.0, help="from a job's row to its end")
    parser.add_argument("--spread", type=float, default=0.0, help="0.5: tables take from half to one and a half of it")
    parser.add_argument("--start-delay-s", type=float, default=1.0, help="from a trigger to the job's row")
    parser.add_argument("--history", type=int, default=3, help="completed syncs of each table before the measurement")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each answer")
    parser.add_argument("--rate-limit", type=int, default=480, help="requests a minute, then 429; 0 for no limit")
    options = vars(parser.parse_args())
    latency_s, limit = options.pop("latency_ms") / 1000, RateLimit(options.pop("rate_limit"))
    api = Api(Plan(**options))
    serve(Counted(api.app(), counts=api.counts, limit=limit, latency_s=latency_s))


def serve(app: ASGIApp) -> None:
    """Serve on a free port until standard input is closed, which happens however the parent ends."""
    # the protocol is named because asyncio turns Nagle's delay off (40 ms an answer) only then
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        threading.Thread(target=_end_with_stdin, args=[server], daemon=True).start()
        print(json.dumps({"host": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
        server.run(sockets=[listener])


def _end_with_stdin(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
