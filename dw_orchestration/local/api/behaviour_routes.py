"""The endpoints that script the warehouse's behaviour, and the gateway that refuses calls on request.

They stand outside PostHog's API, and out of the gateway's reach.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dw_orchestration.local.api.access import Owner
from dw_orchestration.local.api.bodies import body_of
from dw_orchestration.local.api.errors import AnswerError, DetailError, throttled, typed
from dw_orchestration.local.behaviours import Behaviours, ServerBehaviour, SyncBehaviour
from dw_orchestration.local.rows import Schema
from dw_orchestration.local.store import Store

BAD_GATEWAY = """<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body>
</html>
"""

router = APIRouter(prefix="/_behaviours", include_in_schema=False)


class TableScript(BaseModel):
    """Which table is to behave how; `source` is its source's id or prefix."""

    source: str
    table: str
    behaviour: SyncBehaviour


@router.post("/tables/", status_code=204)
def script_table(owner: Owner, script: Annotated[TableScript, Depends(body_of(TableScript))]) -> None:
    """Let the syncs of one table behave as said, until the reset."""
    schema = _schema(owner.store, script)
    owner.behaviours.set_table(schema.id, script.behaviour)


@router.post("/warehouse/", status_code=204)
def script_warehouse(owner: Owner, behaviour: Annotated[ServerBehaviour, Depends(body_of(ServerBehaviour))]) -> None:
    """Let the whole warehouse behave as said, until the reset."""
    owner.behaviours.set_warehouse(behaviour)


@router.delete("/", status_code=204)
def reset(owner: Owner) -> None:
    """Let everything behave as usual."""
    owner.behaviours.reset()


def _schema(store: Store, script: TableScript) -> Schema:
    for project in store.projects():
        for source in store.sources(project.id):
            if script.source in {str(source.id), source.prefix}:
                for schema in store.schemas_of(source.id):
                    if schema.name == script.table:
                        return schema
    raise DetailError(f"There is no table {script.table!r} in a source with the id or prefix {script.source!r}.")


class Gateway:
    """Middleware that refuses the API's calls while a behaviour asks for it."""

    def __init__(self, app: ASGIApp, *, behaviours: Behaviours) -> None:
        self._app = app
        self._behaviours = behaviours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it in the API's place."""
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await self._app(scope, receive, send)
        elif (behaviour := self._behaviours.refusal()) is not None:
            await _refusal(behaviour)(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD", "OPTIONS"} and self._behaviours.loses_answer():
            await self._app(scope, receive, _nowhere)
            await _break_off(send)
        else:
            await self._app(scope, receive, send)


def _refusal(behaviour: ServerBehaviour) -> Response:
    if behaviour.refuses == "throttled":
        return typed(throttled(wait_s=behaviour.retry_after_s))
    if behaviour.refuses == "broken":
        return typed(AnswerError(500, code="error", detail="A server error occurred."))
    return HTMLResponse(BAD_GATEWAY, status_code=502)


async def _nowhere(message: Message) -> None:
    """Lose a part of an answer."""


async def _break_off(send: Send) -> None:
    """Promise an answer and end without it, at which the server closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
