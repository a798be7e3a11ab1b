"""What callers may send. Unknown and read-only keys are dropped without a word, as PostHog does."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

LOOKBACK_LIMIT_S = 5_184_000  # 60 days
FULL_REFRESH_LIMIT_DAYS = 90

SyncType = Literal["full_refresh", "incremental", "append", "webhook", "cdc", "xmin"]
SYNC_TYPES: tuple[str, ...] = get_args(SyncType)
FieldType = Literal["integer", "numeric", "datetime", "date", "timestamp", "objectid", "xid"]
Frequency = Literal["5min", "15min", "30min", "1hour", "6hour", "12hour", "24hour", "7day", "30day"]


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _without_null_characters(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("null_characters_not_allowed", "Null characters are not allowed.")
    return value


def _possible_frequency(value: object) -> object:
    if value == "1min":
        text = '"1min" is not a valid sync frequency. The fastest sync frequency is 5 minutes.'
        raise PydanticCustomError("invalid_choice", text)
    if value == "never":
        text = '"never" is not a sync frequency. To stop syncing this table, set should_sync to false.'
        raise PydanticCustomError("invalid_input", text)
    return value


def _time_text(value: object) -> object:
    """Let pass what a lenient clock reads; the single PATCH parses the text again, strictly."""
    if value is None or (isinstance(value, str) and _read_time(value) is not None):
        return value
    formats = "hh:mm[:ss[.uuuuuu]]"
    raise PydanticCustomError(
        "invalid_input", "Time has wrong format. Use one of these formats instead: {formats}.", {"formats": formats}
    )


def _read_time(text: str) -> time | None:
    """Read a time as Django does: `7:11:00` will do, and a zone is dropped."""
    try:
        return time.fromisoformat(re.sub(r"^(\d):", r"0\1:", text)).replace(tzinfo=None)
    except ValueError:
        return None


_from_number = BeforeValidator(_number_as_text)
_clean = AfterValidator(_without_null_characters)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), _clean, _from_number]
Prefix = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100), _clean, _from_number]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=400), _clean, _from_number]
TimeText = Annotated[str | None, BeforeValidator(_time_text)]
PossibleFrequency = Annotated[Frequency | None, BeforeValidator(_possible_frequency)]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SchemaPatch(Body):
    """Changes to a schema."""

    should_sync: bool = False
    sync_type: SyncType | None = None
    incremental_field: Text | None = None
    incremental_field_type: FieldType | None = None
    incremental_field_lookback_seconds: Annotated[int | None, Field(ge=0, le=LOOKBACK_LIMIT_S)] = None
    sync_frequency: PossibleFrequency = None
    sync_time_of_day: TimeText = None
    primary_key_columns: list[Text] | None = None
    cdc_table_mode: Literal["consolidated", "cdc_only", "both"] | None = None
    enabled_columns: list[Text] | None = None
    row_filters: list[Any] | None = None
    full_refresh_interval_days: Annotated[int | None, Field(ge=1, le=FULL_REFRESH_LIMIT_DAYS)] = None
    full_refresh_time_of_day: TimeText = None

    def changes(self) -> dict[str, Any]:
        """The fields that were sent, with the times of day read."""
        sent = self.model_dump(exclude_unset=True)
        for name in ("sync_time_of_day", "full_refresh_time_of_day"):
            if isinstance(text := sent.get(name), str):
                sent[name] = _read_time(text)
        return sent

    def has_strict_time(self) -> bool:
        """Whether the time of day, if sent, is exactly `HH:MM:SS`."""
        try:
            return self.sync_time_of_day is None or bool(datetime.strptime(self.sync_time_of_day, "%H:%M:%S"))  # noqa: DTZ007 - a time only
        except ValueError:
            return False


class BulkItem(SchemaPatch):
    """Changes to one of several schemas."""

    id: UUID
    apply_sync_defaults: bool = False


class BulkPatch(Body):
    """Changes to several schemas of a source."""

    schemas: Annotated[list[BulkItem], Field(min_length=1)]


class TableChoice(Body):
    """How one table of a new source is to be synced."""

    name: Text
    should_sync: bool = False
    sync_type: SyncType | None = None
    incremental_field: Text | None = None
    incremental_field_type: FieldType | None = None
    incremental_field_lookback_seconds: Annotated[int | None, Field(ge=0, le=LOOKBACK_LIMIT_S)] = None
    sync_time_of_day: TimeText = None
    primary_key_columns: list[Text] | None = None
    enabled_columns: list[Text] | None = None

    def settings(self) -> dict[str, Any]:
        """The fields that make up the schema's row."""
        fields = self.model_dump(exclude={"name"})
        if isinstance(text := fields["sync_time_of_day"], str):
            fields["sync_time_of_day"] = _read_time(text)
        return fields


class SourceCreate(Body):
    """A new source."""

    source_type: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9_]{0,127}$")]
    payload: dict[str, Any]
    prefix: Prefix | None = None
    description: Description | None = None
    access_method: Literal["warehouse", "direct"] = "warehouse"
    created_via: Literal["web", "api", "mcp", "wizard", "self_driving"] | None = None


class SourcePatch(Body):
    """Changes to a source; a sent prefix is dropped, for it is part of every table's name."""

    description: Description | None = None
    access_method: Literal["warehouse", "direct"] = "warehouse"
    job_inputs: dict[str, Any] | None = None
    auto_sync_new_schemas: bool = False
    auto_sync_schema_patterns: list[Text] | None = None


class WebhookEvent(Body):
    """Rows that a provider posts."""

    table: str
    rows: list[dict[str, Any]]


class DatabaseSchemaRequest(BaseModel):
    """Connection fields to try before a source is made."""

    model_config = ConfigDict(frozen=True, extra="allow")
    source_type: Any = None


class HogQLQuery(Body):
    """A query; the values fill its placeholders."""

    kind: Literal["HogQLQuery"]
    query: str
    values: dict[str, Any] | None = None


class QueryRequest(Body):
    """A query, and whether its caller waits."""

    query: HogQLQuery
    refresh: str | bool | None = None
    name: str | None = None
