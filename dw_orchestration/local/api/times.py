"""Points in time in query strings."""

from __future__ import annotations

from datetime import UTC, datetime

from dw_orchestration.local.api.errors import rule_error


def read_moments(*, after: str | None, before: str | None) -> tuple[datetime | None, datetime | None]:
    """The two ends of a span; a time without an offset is in UTC.

    Raises:
        AnswerError: one of them is not a time.
    """
    try:
        return _moment(after), _moment(before)
    except (ValueError, OverflowError):
        raise rule_error("after and before must be ISO 8601 timestamps.") from None


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
