"""Who may call: keys, scopes, projects, and how often."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from dw_orchestration.local.api.errors import AnswerError, not_found, throttled
from dw_orchestration.local.rows import ApiKey, Project, Schema, Source
from dw_orchestration.local.services import Services

_bearer = HTTPBearer(auto_error=False, description="A personal API key with scope external_data_source")


class Throttle:
    """At most so many calls in any minute for each key; without a limit it lets everything pass."""

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}

    def check(self, key_hash: str) -> None:
        """Count a call.

        Raises:
            AnswerError: it is one too many; the answer says when to come again.
        """
        if self._per_minute is None:
            return
        now, calls = self._clock(), self._calls.setdefault(key_hash, deque())
        while calls and calls[0] <= now - 60:
            calls.popleft()
        if len(calls) >= self._per_minute:
            raise throttled(wait_s=math.ceil(calls[0] + 60 - now))
        calls.append(now)


@dataclass(frozen=True, slots=True)
class Access:
    """A call that was let in: to which project, and what it can reach there."""

    services: Services
    project: Project

    def source(self, source_id: str) -> Source:
        """The source with this id.

        Raises:
            AnswerError: there is none in this project.
        """
        source = self.services.store.source(_uuid(source_id))
        if source is None or source.project_id != self.project.id:
            raise not_found()
        return source

    def schema(self, schema_id: str) -> Schema:
        """The schema with this id.

        Raises:
            AnswerError: there is none in this project.
        """
        schema = self.services.store.schema(_uuid(schema_id))
        if schema is None or schema.project_id != self.project.id:
            raise not_found()
        return schema


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found() from None


class _Door:
    """The dependency that lets a call in: first the key, then its scope, the project, and the rate."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(
        self,
        request: Request,
        project_id: str,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Access:
        services: Services = request.app.state.services
        key = _key(services, credentials)
        if not key.allows(self._scope):
            raise _denied(f"API key missing required scope '{self._scope}'")
        project = _project(services, project_id)
        if key.project_ids is not None and project.id not in key.project_ids:
            raise _denied(f"API key does not have access to the requested project: ID {project.id}.")
        request.app.state.throttle.check(key.hash)
        return Access(services=services, project=project)


_write = _Door("external_data_source:write")


def check_caller(request: Request) -> None:
    """Let nobody know which methods a path has, who has no key.

    Raises:
        AnswerError: the key is missing or unknown.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    is_bearer = scheme.lower() == "bearer"
    _key(
        request.app.state.services,
        HTTPAuthorizationCredentials(scheme=scheme, credentials=token) if is_bearer else None,
    )


def _key(services: Services, credentials: HTTPAuthorizationCredentials | None) -> ApiKey:
    if credentials is None or not credentials.credentials:
        text = "Authentication credentials were not provided."
        raise AnswerError(401, code="not_authenticated", detail=text)
    key = services.store.api_key(credentials.credentials)
    if key is None:
        text = "Personal API key found in request Authorization header is invalid."
        raise AnswerError(401, code="authentication_failed", detail=text)
    return key


def _project(services: Services, project_id: str) -> Project:
    projects = services.store.projects()
    if project_id == "@current":
        return projects[0]
    for project in projects:
        if str(project.id) == project_id:
            return project
    raise not_found("Project not found.")


def _denied(detail: str) -> AnswerError:
    return AnswerError(403, code="permission_denied", detail=detail)


async def _owner(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Services:
    """Accept the warehouse's own key."""
    services: Services = request.app.state.services
    if "*" not in _key(services, credentials).scopes:
        raise _denied("API key missing required scope '*'")
    return services


async def _schema_to_change(access: Annotated[Access, Depends(_write)], schema_id: str) -> Schema:
    return access.schema(schema_id)


async def _source_to_change(access: Annotated[Access, Depends(_write)], source_id: str) -> Source:
    return access.source(source_id)


Owner = Annotated[Services, Depends(_owner)]
Reader = Annotated[Access, Depends(_Door("external_data_source:read"))]
Asker = Annotated[Access, Depends(_Door("query:read"))]
Writer = Annotated[Access, Depends(_write)]
# found before the body is read: an unknown id is a 404, even with a broken body
ChangedSchema = Annotated[Schema, Depends(_schema_to_change)]
ChangedSource = Annotated[Source, Depends(_source_to_change)]
