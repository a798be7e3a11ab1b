"""The state that definitions are built from: what a project's warehouse holds, at one moment.

A snapshot is fetched once (at deploy, or when a code server starts in development), written to a file that people can
read in a review, and from then on definitions are a pure function of it. It holds no secret and none of a
source's connection settings.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dw_orchestration.files import replace_file
from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import AccessMethod
from dw_orchestration.posthog.models import Schema, Source
from dw_orchestration.posthog.rows import includes
from dw_orchestration.tables.errors import SnapshotError

_ANOTHER_FOLDER = "name another one: with `state_file`, or with DW_ORCHESTRATION_HOME for the default code location."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSnapshot(_Frozen):
    """A source and its schemas.

    `upstream` names the system that the rows come from, as people would say it.
    """

    id: str
    source_type: str
    prefix: str | None
    description: str | None
    access_method: AccessMethod
    upstream: str
    schemas: tuple[Schema, ...]
    auto_sync_new_schemas: bool = False
    auto_sync_schema_patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source, *, schemas: Iterable[Schema]) -> Self:
        """A source without its connection settings, with these schemas sorted by name."""
        return cls(
            id=source.id,
            source_type=source.source_type,
            prefix=source.prefix or None,
            description=source.description or None,
            access_method=source.access_method,
            upstream=_upstream(source),
            schemas=tuple(sorted(schemas, key=lambda schema: (schema.name, schema.id))),
            auto_sync_new_schemas=bool(source.auto_sync_new_schemas),
            auto_sync_schema_patterns=source.auto_sync_schema_patterns or (),
        )


AnySource = TypeVar("AnySource", Source, SourceSnapshot)


class WarehouseSnapshot(_Frozen):
    """Every source and schema of one project, without secrets and connection settings."""

    version: Literal[1] = 1
    taken_at: datetime
    host: str
    project_id: str
    sources: tuple[SourceSnapshot, ...]
    problem: str | None = None
    """Why this is not what the warehouse holds now: the last refresh failed, and the last good state serves."""

    @classmethod
    def take(cls, api: WarehouseApi, *, host: str, project_id: str, previous: Self | None = None) -> Self:
        """Fetch the snapshot: one request per hundred sources and one per page of schemas.

        Newer servers leave the settings out of the list of sources, older ones do not say in the list of schemas whose
        source a schema is; the two lists together are complete on all of them.

        Args:
            api: The warehouse.
            host: Its name.
            project_id: Its project.
            previous: An earlier snapshot of the project. Sources and schemas that cannot be read now stay as they are
                in it: otherwise they would be taken for deleted ones.

        Raises:
            PostHogError: The API could not be read.
            SnapshotError: There are sources, and none of them can be read.
        """
        settings = {schema.id: schema for schema in api.list_schemas()}
        before = {source.id: source for source in previous.sources} if previous else {}
        sources = {each.id: _source_snapshot(each, settings, before.get(each.id)) for each in api.list_sources()}
        if includes(api.unreadable, "source"):
            sources = before | sources
        if not sources and api.unreadable:
            raise SnapshotError(f"PostHog shows no source that can be read: {', '.join(map(str, api.unreadable))}.")
        return cls(
            taken_at=datetime.now(tz=UTC),
            host=host,
            project_id=project_id,
            sources=tuple(_in_stable_order(sources.values())),
        )

    @classmethod
    def of_live(cls, sources: Iterable[Source]) -> Self:
        """The sources with the records of their schemas as they are at this moment, not trimmed for a state file."""
        return cls(
            taken_at=datetime.now(tz=UTC),
            host="",
            project_id="",
            sources=tuple(SourceSnapshot.of(source, schemas=source.schemas) for source in _in_stable_order(sources)),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a snapshot file.

        Raises:
            FileNotFoundError: There is no file.
            SnapshotError: The file is not a snapshot that this version reads, or cannot be opened.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SnapshotError(
                f"The state file {path} cannot be read ({error.strerror}). Make it a file that this process may read,"
                f" or {_ANOTHER_FOLDER}"
            ) from None
        except ValidationError as error:
            raise SnapshotError(
                f"The state file {path} cannot be read ({error.error_count()} problems, first:"
                f" {error.errors()[0]['msg']}). Delete it, or refresh it with `dg utils refresh-defs-state`."
            ) from None

    def write(self, path: Path) -> None:
        """Write the snapshot, whole or not at all; unset fields are left out so that a diff shows what changed.

        Raises:
            SnapshotError: The file cannot be written; the last one is as it was.
        """
        document = {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise SnapshotError(
                f"The state file {path} cannot be written ({error.strerror}). Make the folder {path.parent} writable,"
                f" or {_ANOTHER_FOLDER}"
            ) from None

    @property
    def has_no_tables(self) -> bool:
        """Whether it holds no tables, only the reason why PostHog was unreachable."""
        return self.problem is not None and not self.sources

    @property
    def project(self) -> str:
        """The project in words, which differ from those of any other one."""
        return f"{self.project_id} at {self.host}"

    @property
    def project_url(self) -> str | None:
        """The address of the project in PostHog; None for the embedded warehouse, which has no pages."""
        return f"{self.host}/project/{self.project_id}" if self.host.startswith("http") else None

    @property
    def schemas(self) -> list[Schema]:
        """All schemas of all sources."""
        return [schema for source in self.sources for schema in source.schemas]


def _in_stable_order(sources: Iterable[AnySource]) -> list[AnySource]:
    """By type, prefix and id: PostHog lists the newest first, which would reorder the file with each new source."""
    return sorted(sources, key=lambda source: (source.source_type.lower(), source.prefix or "", source.id))


def _source_snapshot(source: Source, settings: dict[str, Schema], before: SourceSnapshot | None) -> SourceSnapshot:
    kept = {schema.id: schema for schema in before.schemas} if before else {}
    listed = {schema.id: settings.get(schema.id) or kept.get(schema.id, schema) for schema in source.schemas}
    schemas = kept | listed if source.schemas.unreadable else listed
    return SourceSnapshot.of(source, schemas=map(_timeless, schemas.values()))


def _upstream(source: Source) -> str:
    """The prefix when there is one, else the host.

    A prefix is chosen by the user and can never change; a host may be an address that moves.
    """
    host = (source.job_inputs or {}).get("host")
    return source.prefix or (host if isinstance(host, str) and host else source.source_type)


def _timeless(schema: Schema) -> Schema:
    """The schema without what changes with every sync, or at the source: it would change the definitions each time.

    The status and the error stay if the schema is disabled: together they show that PostHog disabled it, and why.
    """
    table = schema.table and schema.table.model_copy(update={"row_count": None, "columns": ()})
    always = {"last_synced_at": None, "source": None, "table": table, "available_columns": None}
    # what depends on who asks, and what nothing is built from
    always |= {"user_access_level": None, "row_filters": None}
    unless_off = {} if not schema.should_sync else {"status": None, "latest_error": None}
    return schema.model_copy(update=always | unless_off)
