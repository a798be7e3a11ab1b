"""What the job-status sensor remembers between two ticks."""

import base64
import json
import zlib
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from dw_orchestration.tables.errors import CursorError

CURSOR_VERSION = 2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenJob(_Frozen):
    """A job that is not reported yet: it runs, or a Dagster run has it."""

    id: str
    table: str
    created_at: datetime


class SourceCursor(_Frozen):
    """How far a source's jobs have been dealt with.

    Every job created up to `seen_until` is reported, or open, or older than the first tick. Nothing here grows with the
    number of the source's tables, or with the jobs that are left to do: those are later than `seen_until`.
    """

    seen_until: datetime
    open: tuple[OpenJob, ...] = ()
    shown: str = ""
    """A digest of what the list of sources last showed of this source: while it is the same, nothing has happened."""
    settled: str = ""
    """A digest of the jobs that were read last, if none of them is left to do: the same ones need no second check."""
    is_unread: bool = False
    """Whether the last syncs before the first tick have not all been read yet: the list showed that all was quiet."""


class SensorCursor(_Frozen):
    """The whole cursor. `resume_at` is the source to begin with, where the last tick ran out of time."""

    version: int = CURSOR_VERSION
    sources: dict[str, SourceCursor] = {}
    stale: tuple[str, ...] = ()
    """The schemas that PostHog has silently stopped syncing: that is reported once."""
    resume_at: str | None = None
    sweep_at: str | None = None
    """The source that is read next although it shows no change, so that nothing is missed permanently."""
    trouble: dict[str, datetime] = {}
    """Since when the jobs of a source cannot be read."""
    others: dict[str, datetime] = {}
    """The other projects that report under our asset keys, and when their newest known sync began."""
    kept_at: datetime | None = None
    """When Dagster last kept a tick's work."""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read a cursor; none yet means that this is the first tick.

        Raises:
            CursorError: The text is no cursor of this version. Silently starting over would skip or repeat reports.
        """
        if not text:
            return cls()
        try:
            cursor = cls.model_validate_json(zlib.decompress(base64.b64decode(text, validate=True)))
        except (ValueError, zlib.error) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "another version wrote it"
            raise CursorError(
                f"The job-status sensor's cursor cannot be read: {reason}. Reset it on the sensor's"
                " page (Reset cursor): the sensor then starts from each table's newest sync."
            ) from None
        if cursor.version != CURSOR_VERSION:
            raise CursorError(
                f"The job-status sensor's cursor has version {cursor.version}, this package reads {CURSOR_VERSION}."
                " Reset it on the sensor's page (Reset cursor): the sensor then starts from each table's newest sync."
            )
        return cursor

    def dump(self) -> str:
        """The text that Dagster keeps, once for each tick: compressed, and without what is not set."""
        fields = {**self.model_dump(mode="json", exclude_defaults=True), "version": self.version}
        return base64.b64encode(zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)).decode()
