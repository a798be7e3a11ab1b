"""What the groups of API calls share."""

from typing import TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from dw_orchestration.posthog.transport import Params, Transport

T = TypeVar("T")


class ApiCalls:
    """Calls inside one project over one transport.

    Every method may raise `TransportError` and `ApiError` with its subclasses; what the docstrings name under
    `Raises:` is what is special about a call.
    """

    def __init__(self, transport: Transport, *, project_id: str) -> None:
        self.transport = transport
        self.project_id = project_id

    def _path(self, *parts: str) -> str:
        """The path below the project. Ids are quoted: one with a slash must not name another endpoint."""
        quoted = "/".join(quote(part, safe="") for part in (self.project_id, *parts))
        return f"/api/projects/{quoted}/"

    def _read(self, adapter: TypeAdapter[T], path: str, *, params: Params | None = None) -> T:
        return self.transport.request("GET", path, params=params).parse(adapter)
