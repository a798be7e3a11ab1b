"""One table of a project: an external data schema with its source, its name and its asset key."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dw_orchestration.posthog.models import Schema
from dw_orchestration.tables.cadence import Cadence, Rhythm, cadence
from dw_orchestration.tables.classify import SchemaClass, classify
from dw_orchestration.tables.names import KeyPath, snake, source_path, source_slug, table_path
from dw_orchestration.tables.snapshot import SourceSnapshot
from dw_orchestration.tables.takeover import as_before


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that PostHog syncs, or could sync.

    Attributes:
        source: Its source.
        schema: Its record in PostHog, as the state or a live read shows it.
        schema_class: Whether and how it can be synced.
        cadence: When PostHog syncs it by itself, or would if it was not taken over; None if PostHog does not.
        own_cadence: When PostHog syncs it by itself: every 30 days if it was taken over; None if PostHog does not.
        source_name: The name of its source: `<source type>[_<prefix>]`, or the source's id where two sources would
            have the same name.
        key_path: The parts of its asset key, after a translation where there is one.
        default_key_path: The parts of its asset key before any translation. Users may name the table by either key.
        upstream_path: The key of the table that the rows come from: `[<namespace>/]<source type>/<prefix or
            host>/<table>`, or what a translation made of it; None if a translation left it out.
        origin_path: The key of the asset that its columns come from: `upstream_path`, or the only asset that a
            translation has put in its place.
        group: The source in one word, for groups, ops and schedules: `[<namespace>_]<source type>[_<prefix>]`.
        namespace: Goes before all names in Dagster, so that several projects can be loaded next to each other.
        schedule: When Dagster's schedules sync it; None if it has none.
        project: The words for its project, which differ from those of any other one.
        project_url: The address of its project in PostHog; None for the embedded warehouse, which has no pages.
    """

    source: SourceSnapshot
    schema: Schema
    schema_class: SchemaClass
    cadence: Cadence | None
    own_cadence: Cadence | None
    project: str
    source_name: str
    key_path: KeyPath
    default_key_path: KeyPath
    upstream_path: KeyPath | None
    origin_path: KeyPath | None
    group: str
    namespace: str | None = None
    schedule: Rhythm | None = None
    project_url: str | None = None

    @classmethod
    def of(
        cls,
        source: SourceSnapshot,
        schema: Schema,
        *,
        project: str,
        source_name: str | None = None,
        namespace: str | None = None,
        project_url: str | None = None,
    ) -> "Table":
        """A table with its default key: `[<namespace>/]posthog/<source type>[/<prefix>]/<table>`.

        The label is not part of the key: relabelling a table must not make it another asset.
        """
        before, own = ((namespace,) if namespace else ()), table_path(schema.name)
        source_type, slug = snake(source.source_type), source_slug(source.source_type, source.prefix)
        key_path = (*before, *source_path(source.source_type, source.prefix), *own)
        # `posthog` is where the synced tables are: a source of that name must not be upstream of itself
        root = f"{source_type}_source" if source_type == "posthog" else source_type
        upstream_path = (*before, root, snake(source.upstream), *own)
        own_cadence, before_takeover = _cadence_of(schema), as_before(schema)
        return cls(
            source=source,
            schema=schema,
            schema_class=classify(schema, access_method=source.access_method),
            cadence=own_cadence if before_takeover is schema else _cadence_of(before_takeover),
            own_cadence=own_cadence,
            project=project,
            source_name=source_name or slug,
            key_path=key_path,
            default_key_path=key_path,
            upstream_path=upstream_path,
            origin_path=upstream_path,
            group="_".join((*before, slug)),
            namespace=namespace,
            project_url=project_url,
        )

    @property
    def id(self) -> str:
        """The id of its schema in PostHog."""
        return self.schema.id

    @property
    def name(self) -> str:
        """What users type for it, in every namespace: `<source>.<table in PostHog>`."""
        return f"{self.source_name}.{self.schema.name}"

    @property
    def key(self) -> str:
        """The asset key as users type it, with slashes."""
        return "/".join(self.key_path)

    @cached_property
    def rhythm(self) -> Rhythm | None:
        """What its rows can be expected by: PostHog's own syncs or Dagster's schedule, whichever are more frequent."""
        rhythms = [each for each in (self.own_cadence, self.schedule) if each is not None]
        return min(rhythms, key=lambda each: each.stale_after, default=None)

    @property
    def is_driven_by_posthog(self) -> bool:
        """Whether PostHog's own syncs are what its rows can be expected by."""
        return self.own_cadence is not None and self.rhythm == self.own_cadence

    @property
    def url(self) -> str | None:
        """The address of its source's page in PostHog; None for the embedded warehouse."""
        return self.project_url and f"{self.project_url}/data-warehouse/sources/managed-{self.source.id}/schemas"


def _cadence_of(schema: Schema) -> Cadence | None:
    return cadence(schema) if schema.should_sync else None


def by_source(tables: Iterable[Table]) -> dict[str, list[Table]]:
    """The tables by the id of their source, in their order."""
    grouped: dict[str, list[Table]] = {}
    for table in tables:
        grouped.setdefault(table.source.id, []).append(table)
    return grouped


def names_of(tables: Sequence[Table]) -> list[str]:
    """What to filter the jobs of a source by, for these tables of it: nothing if they are all of its tables."""
    return [] if len(tables) == len(tables[0].source.schemas) else [table.schema.name for table in tables]
