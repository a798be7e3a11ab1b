"""The protocol through which the package calls PostHog."""

from __future__ import annotations

from inspect import signature

import pytest
from sync_model import World

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.client import PostHogWarehouseClient

CALLS = sorted(
    name for name in vars(WarehouseApi) if not name.startswith("_") and callable(getattr(WarehouseApi, name))
)


@pytest.mark.parametrize("provider", [PostHogWarehouseClient, World])
@pytest.mark.parametrize("name", CALLS)
def test_the_client_and_the_model_have_every_call(provider: type, name: str) -> None:
    """Each call takes the protocol's parameters, with the same names, kinds and defaults; more are allowed."""
    wanted = signature(getattr(WarehouseApi, name)).parameters.values()
    given = signature(getattr(provider, name)).parameters
    assert [(each.name, each.kind, each.default) for each in wanted] == [
        (given[each.name].name, given[each.name].kind, given[each.name].default) for each in wanted
    ]
