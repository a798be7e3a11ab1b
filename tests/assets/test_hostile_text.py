"""Names, descriptions and errors that a terminal or a page would obey."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from builders import snapshot_of, source_of
from hostile import HIDDEN, MARKDOWN, MARKUP, hidden_in, obeyed_in

from dw_orchestration.assets import build_posthog_assets
from dw_orchestration.assets.checks import (
    ReportedSyncs,
    check_keys,
    data_as_usual,
    no_new_sync,
    not_synced,
    sync_succeeded,
)
from dw_orchestration.assets.spec import asset_spec, upstream_specs
from dw_orchestration.build import not_connected
from dw_orchestration.operations.report import Report
from dw_orchestration.posthog.models import Column, Job, Schema, WarehouseTable
from dw_orchestration.tables.drift import drift_between
from dw_orchestration.tables.tables import Tables
from dw_orchestration.testing import fails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.tables.snapshot import WarehouseSnapshot

HOSTILE = f"{MARKUP} {HIDDEN}\n# heading\n- `item\n```"
# a file's name has no slash
NAME = f"orders {HIDDEN}\n[x](evil.example)"


def hostile_tables() -> Tables:
    schema = Schema(
        id="1", name=HOSTILE, label=HOSTILE, should_sync=True, sync_type="full_refresh", description=HOSTILE
    )
    source = source_of(schema, prefix=HOSTILE).model_copy(update={"description": HOSTILE})
    return Tables(snapshot_of(source), include_disabled=True)


def table_with(*columns: Column) -> Schema:
    return Schema(id="1", name=HOSTILE, table=WarehouseTable(id="t", name="t", columns=columns))


def every_markdown() -> Iterator[str | None]:
    """Each text of this package that Dagster renders, with PostHog's text in it."""
    tables = hostile_tables()
    for spec in (asset_spec(tables[0]), *upstream_specs(tables)):
        yield spec.description
    for one, other in ((Tables(snapshot_of()), tables), (tables, Tables(snapshot_of()))):
        yield drift_between(one, other).describe()
    yield drift_between(tables, tables.of(renamed(tables))).describe()
    before = asset_metadata(table_with(Column(name=HOSTILE, type=HOSTILE)))
    for columns in ([Column(name="id", type=HOSTILE)], [Column(name=HOSTILE, type="int")]):
        syncs = ReportedSyncs((before,))
        yield data_as_usual(tables[0], failed_job(), record=table_with(*columns), syncs=syncs).description
    yield sync_succeeded(tables[0], failed_job()).description
    yield not_synced(tables[0], HOSTILE).description
    yield no_new_sync(check_keys(asset_spec(tables[0]).key)[0], last=None, why=HOSTILE).description
    yield from (str(spec.description) for spec in not_connected(HOSTILE, name="shop").resolve_all_asset_specs())
    yield Report(summary=HOSTILE, rows=[{"a": HOSTILE, "b": r"a\|b|c"}], columns=["a", "b"]).markdown()
    yield Report(summary=HOSTILE).markdown()


def failed_job() -> Job:
    shown = {"id": "1", "name": HOSTILE, "should_sync": True}
    row = {"id": "j", "status": "Failed", "latest_error": HOSTILE, "created_at": "2026-11-02T00:00:00Z"}
    return Job.model_validate({**row, "schema": shown})


def renamed(tables: Tables) -> WarehouseSnapshot:
    (source,) = tables.snapshot.sources
    schema = source.schemas[0].model_copy(update={"name": f"{HOSTILE}2"})
    return snapshot_of(source.model_copy(update={"schemas": (schema,)}))


def asset_metadata(record: Schema) -> dict[str, dg.MetadataValue]:
    columns = [dg.TableColumn(name=column.name, type=column.type) for column in record.table.columns]
    return {"dagster/column_schema": dg.TableSchemaMetadataValue(dg.TableSchema(columns=columns))}


def test_markdown_shows_text_of_posthog_as_it_is() -> None:
    """No name, label, prefix, description, column or error becomes a link, an image, HTML or a heading."""
    texts = list(every_markdown())
    assert 13 == len(texts)
    assert [] == [found for text in texts for found in obeyed_in(text) + hidden_in(text)]
    assert all("evil.example" in text for text in texts if "evil" in text)


@pytest.mark.parametrize(("text", "cells"), [("a|b", ["a|b"]), (r"a\|b", [r"a\\x7cb"]), ("`|`", ["`|`"])])
def test_a_pipe_ends_no_cell(text, cells) -> None:
    """A text with pipes stays in its cell."""
    tokens = MARKDOWN.parse(Report(summary="", rows=[{"a": text}], columns=["a"]).markdown())
    inline = [child.content for token in tokens for child in token.children or ()]
    assert ["a", *cells] == inline


def test_a_runs_log_and_events_show_escapes(embedded_warehouse, capfd) -> None:
    """Log lines, failures, checks and observations show hidden characters as escapes, in the terminal too."""
    source = embedded_warehouse.add_source("Hubspot", prefix="acme", tables={NAME: [{"id": 1}]})
    embedded_warehouse.behave(NAME, fails(f"{MARKUP} {HIDDEN}"))
    tables = Tables(embedded_warehouse.snapshot())
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            build_posthog_assets(tables),
            instance=instance,
            resources={"posthog_warehouse": embedded_warehouse.resource},
            run_config={"ops": {"sync_hubspot_acme": {"config": {"poll_min_s": 0.1}}}},
            raise_on_error=False,
        )
        messages = [entry.user_message or "" for entry in instance.all_logs(result.run_id)]
        checks = result.get_asset_check_evaluations()
    printed = capfd.readouterr()
    values = [str(value.value) for check in checks for value in check.metadata.values()]
    shown = [*messages, *(check.description for check in checks), *values]
    assert not result.success
    assert source.id
    assert [] == [each for text in (*shown, printed.err, printed.out) for each in hidden_in(without_colours(text))]
    assert [] == [each for check in checks for each in obeyed_in(check.description)]
    assert any(r"\x1b]0;owned\x07\u202e\x9b2J" in text for text in messages)


def without_colours(text: str) -> str:
    """The terminal's text without the colours that Dagster prints itself."""
    return re.sub(r"\x1b\[\d+m", "", text)
