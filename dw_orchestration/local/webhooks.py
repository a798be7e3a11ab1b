"""Webhooks of sources that are served from files: rows are posted to this server, and wait for the next sync."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from dw_orchestration.local.errors import RefusedError
from dw_orchestration.local.rows import PushedRow, Schema, Source
from dw_orchestration.local.syncing.files import FilesConnector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dw_orchestration.local.store import Store

NO_WEBHOOKS = "This source type does not support webhooks"


def supports_webhooks(schemas: Sequence[Schema]) -> bool:
    """Whether a source can push rows of one of its tables."""
    return any(schema.discovered.supports_webhooks for schema in schemas)


def create(store: Store, source: Source) -> UUID:
    """Make a webhook in the place of the one that there may be.

    Raises:
        RefusedError: the source has no table that it can push.
    """
    if not supports_webhooks(store.schemas_of(source.id)):
        raise RefusedError(NO_WEBHOOKS)
    webhook_id = uuid4()
    store.update(Source, source.id, webhook_id=webhook_id)
    return webhook_id


def delete(store: Store, source: Source) -> None:
    """Remove a source's webhook.

    Raises:
        RefusedError: the source has none, or a table needs it.
    """
    schemas = store.schemas_of(source.id)
    if not supports_webhooks(schemas):
        raise RefusedError(NO_WEBHOOKS)
    using = [schema.name for schema in schemas if schema.sync_type == "webhook" and schema.should_sync]
    if using:
        raise RefusedError(f"Cannot delete webhook while tables are using webhook sync: {', '.join(using)}")
    store.update(Source, source.id, webhook_id=None)


def receive(store: Store, source: Source, *, table: str, rows: Sequence[dict[str, Any]]) -> int:
    """Keep posted rows for the next sync of a table that takes them; how many were kept."""
    for schema in store.schemas_of(source.id):
        if schema.name == table and schema.sync_type == "webhook":
            with store.transaction():
                for row in rows:
                    store.insert(PushedRow(schema_id=schema.id, content=row))
            return len(rows)
    return 0


@contextmanager
def arrived(schema: Schema, rows: Sequence[PushedRow], *, folder: Path) -> Iterator[FilesConnector]:
    """Rows that arrived as a source to sync from; of several with one key the latest counts."""
    latest: dict[object, PushedRow] = {}
    for number, row in enumerate(rows):
        key = tuple(str(row.content.get(name)) for name in schema.primary_key_columns or ())
        latest[key or number] = row
    file = folder / str(schema.id) / f"{schema.name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row.content) + "\n" for row in latest.values()))
    try:
        yield FilesConnector(str(schema.id), fixtures=folder)
    finally:
        file.unlink()
