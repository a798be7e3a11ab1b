"""How long syncs usually take, for the tables whose rows are due at a time of day."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta
from itertools import islice
from math import ceil
from statistics import median

from dw_orchestration.posthog.api import WarehouseApi
from dw_orchestration.posthog.enums import AccessMethod, JobStatus
from dw_orchestration.posthog.errors import NotFoundError, PermissionDeniedError, PostHogError
from dw_orchestration.posthog.limits import JOBS_PER_ANSWER, NAMES_PER_REQUEST
from dw_orchestration.posthog.models import Job, Schema
from dw_orchestration.tables.cadence import DAY, MINUTE, WEEK, cadence
from dw_orchestration.tables.classify import SchemaClass, classify
from dw_orchestration.tables.snapshot import SourceSnapshot, WarehouseSnapshot

# a refresh asks no more sources than this: the others' tables have the least time that there is
SOURCES_ASKED = 100
# steps in which durations are told: a minute more or less is no change of the definitions
STEP = timedelta(minutes=5)


def is_due_at_a_time(schema: Schema, *, access_method: AccessMethod) -> bool:
    """Whether a user has said at which time of the day or week PostHog syncs the table.

    Without one, PostHog draws a time by itself, and nobody waits for the rows of then.
    """
    ticks = cadence(schema)
    return (
        ticks is not None
        and ticks.every in (DAY, WEEK)
        and schema.sync_time_of_day is not None
        and classify(schema, access_method=access_method) is SchemaClass.SYNCABLE
    )


def with_usual_durations(
    snapshot: WarehouseSnapshot, api: WarehouseApi, *, known: WarehouseSnapshot | None = None
) -> WarehouseSnapshot:
    """The snapshot with the usual durations of the tables that are due at a time: a request per source that has some.

    Args:
        snapshot: What the warehouse holds.
        api: What to ask.
        known: The state before. Its durations serve where jobs can't be read; this never fails.
    """
    due = {source.id: names for source in snapshot.sources if (names := _names_due(source))}
    before = {source.id: source.usual_minutes for source in known.sources} if known else {}
    read = _read(api, dict(islice(due.items(), SOURCES_ASKED)))
    minutes = {
        source_id: _only(names, {**before.get(source_id, {}), **read.get(source_id, {})})
        for source_id, names in due.items()
    }
    sources = tuple(
        source.model_copy(update={"usual_minutes": minutes[source.id]}) if minutes.get(source.id) else source
        for source in snapshot.sources
    )
    return snapshot.model_copy(update={"sources": sources})


def _names_due(source: SourceSnapshot) -> list[str]:
    return [schema.name for schema in source.schemas if is_due_at_a_time(schema, access_method=source.access_method)]


def _only(names: Collection[str], minutes: Mapping[str, int]) -> dict[str, int]:
    return {name: minutes[name] for name in names if name in minutes}


def _read(api: WarehouseApi, due: Mapping[str, list[str]]) -> dict[str, dict[str, int]]:
    found = {}
    for source_id, names in due.items():
        try:
            jobs = list(islice(api.list_jobs(source_id, schemas=names[:NAMES_PER_REQUEST]), JOBS_PER_ANSWER))
        except (NotFoundError, PermissionDeniedError):
            continue
        except PostHogError:
            # the others would hardly fare better, and the refresh would wait for each of them
            break
        found[source_id] = _usual_minutes(jobs)
    return found


def _usual_minutes(jobs: Collection[Job]) -> dict[str, int]:
    """The median of each table's completed jobs, so that a first sync or a resync among them does not count."""
    durations_s: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        if job.status is JobStatus.COMPLETED and job.finished_at is not None:
            durations_s[job.table.name].append((job.finished_at - job.created_at).total_seconds())
    return {name: _in_steps(median(each)) for name, each in durations_s.items()}


def _in_steps(duration_s: float) -> int:
    return max(1, ceil(duration_s / STEP.total_seconds())) * (STEP // MINUTE)
