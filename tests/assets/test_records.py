"""One list of all tables serves the steps of a run on one machine."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sync_model import START, Run, Table, World, too_many_requests

from dw_orchestration.assets.records import SharedRecords

if TYPE_CHECKING:
    from pathlib import Path

    from dw_orchestration.posthog.models import Schema


@pytest.fixture
def world() -> World:
    """Two tables whose syncs have begun and ended: the second one's ends two seconds after the first one's."""
    world = World(latency_s=0.0)
    for name, duration_s in (("early", 10.0), ("late", 12.0)):
        table = Table(name, name, usual_run=Run(queue_s=0.0, duration_s=duration_s))
        world.add(f"source of {name}", table)
        world.start(table)
    world.sleep(11.0)
    return world


def shared(world: World, file: Path, *, tables: int = 2, sources: int = 2) -> SharedRecords:
    """As a process of a step sees it; a file is dated by the machine's clock."""
    return SharedRecords(world, file, tables=tables, sources=sources, now=lambda: time.time() + world.t)


def name_of(record: Schema | None) -> str | None:
    """The table that a record is of."""
    return record.name if record is not None else None


def test_what_one_process_has_listed_serves_another(world: World, tmp_path: Path) -> None:
    """One request, however many steps there are."""
    for _ in range(3):
        assert "early" == name_of(shared(world, tmp_path / "shared" / "records.json").after("early", START))
    assert {"list_schemas": 1} == world.calls


def test_a_sync_that_has_ended_since_is_found_five_seconds_later(world: World, tmp_path: Path) -> None:
    """Not each step lists the tables again because its own sync has just ended."""
    records = shared(world, tmp_path / "records.json")
    assert None is records.after("late", START)
    world.sleep(2.0)
    assert None is records.after("late", START)
    world.sleep(3.0)
    assert "late" == name_of(records.after("late", START))
    assert None is records.after("late", START + timedelta(seconds=1))
    assert {"list_schemas": 2} == world.calls


@pytest.mark.parametrize(("tables", "sources"), [(2, 1), (101, 2)])
def test_a_list_as_long_as_there_are_sources_is_not_read(world: World, tmp_path: Path, tables, sources) -> None:
    """The record of each source takes as few requests."""
    assert None is shared(world, tmp_path / "records.json", tables=tables, sources=sources).after("early", START)
    assert {} == world.calls


def test_what_cannot_be_shared_is_listed_by_each_process(world: World, tmp_path: Path) -> None:
    """A damaged file, and a folder that cannot be made."""
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "file").touch()
    assert "early" == name_of(shared(world, tmp_path / "damaged.json").after("early", START))
    assert "early" == name_of(shared(world, tmp_path / "file" / "records.json").after("early", START))
    assert {"list_schemas": 2} == world.calls


def test_a_list_that_is_refused_is_not_asked_for_by_each_table(world: World, tmp_path: Path) -> None:
    """A failure costs no sync, and one request."""
    world.faults["list_schemas"].append(too_many_requests())
    records = shared(world, tmp_path / "records.json")
    assert [None, None] == [records.after(name, START) for name in ("early", "early")]
    assert {"list_schemas": 1} == world.calls
