"""From what a user typed, in the UI or on the command line, to a change of settings."""

from __future__ import annotations

from datetime import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypedDict, TypeVar

from pydantic import ValidationError

from dw_orchestration.posthog.enums import IncrementalFieldType, OpenEnum, SyncFrequency, SyncType
from dw_orchestration.posthog.models import SchemaUpdate
from dw_orchestration.tables.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

E = TypeVar("E", bound=OpenEnum)

FREQUENCIES = tuple(each for each in SyncFrequency if each is not SyncFrequency.NEVER)
NO_TIME = "none"


class TypedSettings(TypedDict, total=False):
    """Settings as they are typed; None and what is left out stay as they are.

    Attributes:
        sync_frequency: Such as `6hour`.
        sync_time_of_day: `HH:MM` or `HH:MM:SS` in UTC, or `none` for PostHog's own choice.
        sync_type: Such as `incremental`.
        incremental_field: The column that an incremental or append sync follows.
        incremental_field_type: Such as `timestamp`; where it is left out, the source is asked.
        incremental_field_lookback_seconds: How far an incremental sync goes back behind the last row that it had.
        primary_key_columns: The columns by which an incremental sync replaces rows.
    """

    sync_frequency: str | None
    sync_time_of_day: str | None
    sync_type: str | None
    incremental_field: str | None
    incremental_field_type: str | None
    incremental_field_lookback_seconds: int | None
    primary_key_columns: Sequence[str] | None


def settings_update(typed: TypedSettings) -> SchemaUpdate:
    """The change that was typed.

    Raises:
        UsageError: A value is none that PostHog takes, or there is none at all.
    """
    given: dict[str, object] = {name: value for name, value in typed.items() if value not in (None, [], ())}
    if not given:
        raise UsageError(f"There is nothing to change: give one of {', '.join(TypedSettings.__annotations__)}.")
    if (frequency := typed.get("sync_frequency")) is not None:
        given["sync_frequency"] = _frequency(frequency)
    if (when := typed.get("sync_time_of_day")) is not None:
        given["sync_time_of_day"] = _time(when)
    if (sync_type := typed.get("sync_type")) is not None:
        given["sync_type"] = _member(SyncType, sync_type, name="sync_type")
    if (field_type := typed.get("incremental_field_type")) is not None:
        given["incremental_field_type"] = _member(IncrementalFieldType, field_type, name="incremental_field_type")
    try:
        return SchemaUpdate.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
    raise UsageError(f"{problem['loc'][0]}: {problem['msg']}.")


def _frequency(text: str) -> SyncFrequency:
    if text == SyncFrequency.NEVER:
        raise UsageError("PostHog has no sync_frequency `never`: switch the table off, or choose the longest, 30day.")
    return _member(SyncFrequency, text, name="sync_frequency", choices=FREQUENCIES)


def _member(kind: type[E], text: str, *, name: str, choices: Sequence[E] | None = None) -> E:
    known = [str(each) for each in choices or kind]
    if text in known:
        return kind(text)
    close = get_close_matches(text.lower(), known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Choose {', '.join(known)}."
    raise UsageError(f"{text!r} is no {name}. {hint}")


def _time(text: str) -> time | None:
    if text.lower() == NO_TIME:
        return None
    try:
        found = time.fromisoformat(text)
    except ValueError:
        found = None
    # PostHog knows only UTC and whole seconds; Python takes much more, such as `03`
    if found is None or found.tzinfo is not None or found.microsecond or ":" not in text:
        raise UsageError(f"{text!r} is no sync_time_of_day: give HH:MM or HH:MM:SS, in UTC, or `{NO_TIME}`.")
    return found
