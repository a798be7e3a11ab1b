"""PostHog's numbers, and that the modules which depend on them use them."""

from __future__ import annotations

import ast
from datetime import timedelta
from inspect import signature
from pathlib import Path

import pytest

import dw_orchestration
from dw_orchestration.posthog import limits
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.limits import (
    ABANDONED_AFTER,
    JOBS_PER_ANSWER,
    LONGEST_STREAK_GAP,
    ROWS_PER_PAGE,
    STREAK_GAP,
)
from dw_orchestration.posthog.rate_limit import DEFAULT_RATE_LIMITS
from dw_orchestration.sync.settings import SyncSettings

PACKAGE = Path(dw_orchestration.__file__).parent
NUMBERS = {name: value for name, value in vars(limits).items() if name.isupper()}


def modules() -> list[Path]:
    """The package's modules, without the embedded warehouse, which has its own model of PostHog."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "local" not in path.relative_to(PACKAGE).parts]


def test_the_numbers_are_posthogs() -> None:
    """The numbers that PostHog's server and its documentation state."""
    assert (50, 100) == (JOBS_PER_ANSWER, ROWS_PER_PAGE)
    assert (480, 4800) == (limits.REQUESTS_PER_MINUTE, limits.REQUESTS_PER_HOUR)
    assert (5, timedelta(minutes=10), timedelta(hours=1)) == (limits.STREAK_LENGTH, STREAK_GAP, LONGEST_STREAK_GAP)
    assert timedelta(days=7) == ABANDONED_AFTER


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_defines_a_limit_again(path: Path) -> None:
    """A name that `limits` defines is imported from there, never assigned in another module."""
    assigned = {
        target.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert path == Path(limits.__file__) or not assigned & NUMBERS.keys()


@pytest.mark.parametrize("method", [PostHogWarehouseClient.list_sources, PostHogWarehouseClient.list_schemas])
def test_the_client_reads_pages_of_posthogs_size(method: object) -> None:
    """By default a list has pages of PostHog's size."""
    assert ROWS_PER_PAGE == signature(method).parameters["page_size"].default  # type: ignore[arg-type]


def test_the_defaults_come_from_the_limits() -> None:
    """Half of what PostHog allows, and its longest import."""
    assert (limits.DEFAULT_REQUESTS_PER_MINUTE, limits.DEFAULT_REQUESTS_PER_HOUR) == (
        DEFAULT_RATE_LIMITS.per_minute,
        DEFAULT_RATE_LIMITS.per_hour,
    )
    assert limits.ABANDONED_AFTER.total_seconds() == SyncSettings().abandoned_after_s


def test_fifty_long_names_fit_into_an_address() -> None:
    """Common proxies refuse a request line of more than 8 KB."""
    assert limits.NAMES_PER_REQUEST * len(f"schemas={'n' * 100}&") < 8 * 1024
