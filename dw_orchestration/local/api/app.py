"""The FastAPI application: routes, error shapes and the OpenAPI document."""

from __future__ import annotations

from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from dw_orchestration.local.api import behaviour_routes, errors, query_routes, schema_routes, source_routes
from dw_orchestration.local.api.access import Throttle, check_caller
from dw_orchestration.local.api.bodies import request_schemas
from dw_orchestration.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dw_orchestration.local.services import Services


class HealthOut(BaseModel):
    """The answer of a server that is up."""

    status: str = "ok"


_health = APIRouter()
_ROUTERS = (
    schema_routes.router,
    source_routes.router,
    source_routes.receiver,
    query_routes.router,
    behaviour_routes.router,
    _health,
)


@_health.get("/_health/", responses={405: {"model": errors.ErrorOut}})
async def health() -> HealthOut:
    """Say that the server is up; no key is needed."""
    return HealthOut()


class Spellings:
    """Takes a path without its trailing slash as if it had one, and HEAD as GET; PostHog redirects neither form."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the server leaves the body out
            scope = {**scope, "method": method, "path": scope["path"].removesuffix("/") + "/"}
        await self._app(scope, receive, send)


class Dated:
    """Sets the date of each answer, as any web server does, but by the warehouse's own clock."""

    def __init__(self, app: ASGIApp, *, now: Callable[[], datetime]) -> None:
        self._app = app
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and date the answer."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        await self._app(scope, receive, dated)


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the request bodies that the endpoints read by themselves."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["schemas"].update(request_schemas())
            for path in document["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)  # FastAPI's own shape is never sent
        return super().openapi()


def create_app(services: Services, *, rate_limit_per_minute: int | None = None) -> FastAPI:
    """The API over the given services."""
    app = _Api(
        title="Embedded warehouse",
        version=__version__,
        openapi_url="/api/schema/",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.throttle = Throttle(rate_limit_per_minute)
    app.add_middleware(Spellings)
    app.add_middleware(behaviour_routes.Gateway, behaviours=services.behaviours)
    app.add_middleware(Dated, now=services.now)
    errors.install(app, routes=[route for router in _ROUTERS for route in router.routes], check_caller=check_caller)
    for router in _ROUTERS:
        app.include_router(router)
    return app
