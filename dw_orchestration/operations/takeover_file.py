"""The file that remembers how often PostHog synced the tables that were taken over: the only way back."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from dw_orchestration.files import as_private_as
from dw_orchestration.posthog.enums import SyncFrequency
from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.errors import SetupError, SnapshotError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

# The longest that PostHog has; there is no "by hand only".
OUT_OF_THE_WAY = SyncFrequency.THIRTY_DAYS


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TakenTable(_Frozen):
    """A table as it was before the takeover.

    The time of day is not part of it, because a takeover leaves it alone.
    """

    name: str
    source_id: str
    frequency: SyncFrequency
    taken_at: datetime


class TakeoverFile(_Frozen):
    """What a takeover moved out of the way in one project, by schema id."""

    version: Literal[1] = 1
    host: str
    project_id: str
    tables: Mapping[str, TakenTable] = {}

    def holds(self, schema: Schema) -> bool:
        """Whether the table is out of the way: one that somebody set to another frequency since is not."""
        return schema.id in self.tables and schema.sync_frequency is OUT_OF_THE_WAY

    def as_before(self, snapshot: WarehouseSnapshot) -> WarehouseSnapshot:
        """The snapshot with the frequencies from before the takeover."""
        sources = [
            source.model_copy(update={"schemas": tuple(map(self._schema_before, source.schemas))})
            for source in snapshot.sources
        ]
        return snapshot.model_copy(update={"sources": tuple(sources)})

    def with_tables(self, tables: Mapping[str, TakenTable]) -> Self:
        """The same, and these."""
        return self.model_copy(update={"tables": {**self.tables, **tables}})

    def without(self, schema_ids: Collection[str]) -> Self:
        """The same but for these."""
        return self.model_copy(update={"tables": {key: self.tables[key] for key in self.tables.keys() - schema_ids}})

    def _schema_before(self, schema: Schema) -> Schema:
        if not self.holds(schema):
            return schema
        return schema.model_copy(update={"sync_frequency": self.tables[schema.id].frequency})


@dataclass(frozen=True)
class TakeoverStore:
    """The takeover file of one project.

    Keep it where everything that runs or loads these definitions finds it, and with the backups.
    """

    path: Path
    host: str
    project_id: str

    @classmethod
    def of(cls, snapshot: WarehouseSnapshot, path: Path) -> Self:
        """The file at `path`, for the project of a snapshot."""
        return cls(path=path, host=snapshot.host, project_id=snapshot.project_id)

    def read(self) -> TakeoverFile:
        """What was taken over; nothing if there is no file.

        Raises:
            SnapshotError: The file cannot be read. It is the only way back, so nothing replaces it.
            SetupError: The file is of another project.
        """
        try:
            file = TakeoverFile.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return TakeoverFile(host=self.host, project_id=self.project_id)
        except (ValidationError, OSError) as error:
            problem = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise SnapshotError(
                f"The takeover file {self.path} cannot be read ({problem}). It stores how often"
                " PostHog synced the tables before: fix it or restore it from a backup."
            ) from None
        if (file.host, file.project_id) != (self.host, self.project_id):
            raise SetupError(
                f"The takeover file {self.path} is of project {file.project_id} at {file.host}, not of project"
                f" {self.project_id} at {self.host}. Give each project its own file."
            )
        return file

    def write(self, file: TakeoverFile) -> None:
        """Write the file, whole or not at all, and have it on the disk before anything is changed in PostHog.

        Raises:
            SnapshotError: The file cannot be written; the last one is as it was.
        """
        ordered = file.model_copy(update={"tables": dict(sorted(file.tables.items()))})
        unfinished = self.path.with_name(f"{self.path.name}.unfinished")
        with self._writable():
            with as_private_as(self.path.parent), unfinished.open("w", encoding="utf-8") as draft:
                draft.write(json.dumps(ordered.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
                draft.flush()
                os.fsync(draft.fileno())
            unfinished.replace(self.path)

    def restore(self, snapshot: WarehouseSnapshot) -> WarehouseSnapshot:
        """The snapshot with the frequencies from before the takeover, for `Tables(restore=...)`.

        A table that Dagster drives keeps its own cadence, although PostHog shows 30 days.

        Raises:
            SetupError: The file belongs to another project.
            SnapshotError: The file cannot be read.
        """
        return self.read().as_before(snapshot)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out: two takeovers at once would forget what the other one stored.

        Raises:
            SetupError: Another process is changing it.
            SnapshotError: Its folder cannot be written.
        """
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            with self._writable():
                lock.acquire(timeout=0)
        except Timeout:
            raise SetupError(f"Another takeover is using {self.path}. Try again when it has ended.") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Make the folder, and turn what fails in it into an error that names it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            yield
        except Timeout:
            raise
        except OSError as error:
            raise SnapshotError(
                f"The takeover file {self.path} cannot be written ({error.strerror}). Make the folder"
                f" {self.path.parent} writable, or name another one: with `takeover_file`, or with"
                " DW_ORCHESTRATION_HOME for the default code location."
            ) from None
