"""The resource's settings: who may change PostHog, and for how long a request is waited for."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from component_projects import as_project
from pydantic import ValidationError

from dw_orchestration.errors import ReadOnlyError, TransportError
from dw_orchestration.resources.warehouse import PostHogWarehouseResource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.testing.warehouse import EmbeddedWarehouse

BRANCH = "DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT"


@pytest.mark.parametrize(
    ("in_branch", "read_only", "is_refused"),
    [
        (None, None, False),
        ("0", None, False),
        ("", None, False),
        ("1", None, True),
        ("1", False, False),
        ("1", True, True),
        (None, True, True),
    ],
)
def test_branch_deployments_change_nothing(
    embedded_warehouse: EmbeddedWarehouse,
    monkeypatch: pytest.MonkeyPatch,
    in_branch: str | None,
    *,
    read_only: bool | None,
    is_refused: bool,
) -> None:
    """In a branch deployment nothing is synced unless that was asked for; elsewhere everything is."""
    embedded_warehouse.add_source("Stripe", tables={"Customer": [{"id": 1}]})
    monkeypatch.delenv(BRANCH, raising=False)
    if in_branch is not None:
        monkeypatch.setenv(BRANCH, in_branch)
    (schema,) = embedded_warehouse.snapshot().schemas
    with as_project(embedded_warehouse, read_only=read_only).client() as client:
        if is_refused:
            with pytest.raises(ReadOnlyError):
                client.reload_schema(schema.id)
            assert "Customer" == client.get_schema(schema.id).name
        else:
            client.reload_schema(schema.id)


class Silent:
    """A server that takes requests and never answers."""

    def __init__(self) -> None:
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self._taken.append(connection)
            if not connection.recv(65536):
                return
            self.asked += 1

    def close(self) -> None:
        """Let go of everybody."""
        # a caller that says nothing is the sign to end
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        for each in (*self._taken, self._listener):
            each.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    """A server that never answers."""
    server = Silent()
    yield server
    server.close()


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_silent_server_is_given_up(silent: Silent, attempts: int) -> None:
    """After `request_timeout_s` of silence a request counts as failed, and it is sent `max_attempts` times at most."""
    resource = PostHogWarehouseResource(
        host=silent.host,
        project_id="1",
        api_key="phx_of_nobody",
        request_timeout_s=0.05,
        max_attempts=attempts,
        requests_per_minute=0,
    )
    with pytest.raises(TransportError):
        resource.take_snapshot()
    assert attempts == silent.asked


@pytest.mark.parametrize("wrong", [{"request_timeout_s": 0}, {"max_attempts": 0}, {"requests_per_minute": -1}])
def test_impossible_settings_are_refused_at_once(wrong: dict[str, float]) -> None:
    """A setting that could never work is an error where it is made, not where it is used."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PostHogWarehouseResource(project_id="1", api_key="phx_of_nobody", **wrong)  # type: ignore[arg-type]
