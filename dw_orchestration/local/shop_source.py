"""The shop as the embedded warehouse's first source, so that a first run has real rows to sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dw_orchestration.local import source_actions
from dw_orchestration.local.requests import SourceCreate
from dw_orchestration.local.rows import Source
from dw_orchestration.local.schema_actions import update_schema

if TYPE_CHECKING:
    from dw_orchestration.local.services import Services
    from dw_orchestration.local.shop import DatabaseLogin

SOURCE_TYPE = "Postgres"
PREFIX = "shop"

_BY_UPDATE = {
    "sync_type": "incremental",
    "incremental_field": "updated_at",
    "incremental_field_type": "timestamp",
    "primary_key_columns": ["id"],
}
_BY_ID = {"sync_type": "append", "incremental_field": "id", "incremental_field_type": "integer"}

# all at the same minute, so that their schedule reads "every 5 minutes"
_AT_ONCE = {"sync_time_of_day": "00:00:00"}
_TABLES: dict[str, dict[str, Any]] = {
    "customers": _BY_UPDATE | _AT_ONCE,
    "products": {"sync_type": "full_refresh"} | _AT_ONCE,
    "orders": _BY_UPDATE | _AT_ONCE,
    "order_lines": _BY_ID | _AT_ONCE,
    "page_events": _BY_ID | _AT_ONCE,
}


def connect_shop(services: Services, connection: DatabaseLogin, *, project_id: int) -> None:
    """Add the shop's source at the first start; later update its address.

    Raises:
        RefusedError: the shop's tables cannot be read.
    """
    job_inputs: dict[str, Any] = {
        "host": connection.host,
        "port": connection.port,
        "database": connection.database,
        "user": connection.user,
        "password": connection.password,
        "schema": "public",
    }
    for source in services.store.sources(project_id):
        if (source.source_type, source.prefix) == (SOURCE_TYPE, PREFIX):
            services.store.update(Source, source.id, job_inputs=source.job_inputs | job_inputs)
            return
    _create(services, job_inputs, project_id=project_id)


def _create(services: Services, job_inputs: dict[str, Any], *, project_id: int) -> None:
    choices = [{"name": name, "should_sync": True} | settings for name, settings in _TABLES.items()]
    request = SourceCreate(
        source_type=SOURCE_TYPE,
        prefix=PREFIX,
        description="The Night Ferry, a small shop that keeps selling",
        payload=job_inputs | {"schemas": choices},
    )
    source = source_actions.create_source(services, request, project_id=project_id)
    for schema in services.store.schemas_of(source.id):
        update_schema(services, schema, changes={"sync_frequency": "5min"})
