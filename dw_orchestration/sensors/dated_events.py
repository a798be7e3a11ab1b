"""Events that stand in the event log at the moment when their sync ended.

Dagster has no public way to write them. So this module alone uses what Dagster does not promise to keep, and is
imported only where that was asked for.
"""

import inspect
from collections.abc import Iterable, Mapping
from datetime import datetime

import dagster as dg

from dw_orchestration.assets.metadata import JOB_ID
from dw_orchestration.sensors.events import AssetEvent
from dw_orchestration.tables.errors import SetupError

NOT_SUPPORTED = (
    f"`date_events_back` uses what Dagster does not promise to keep, and Dagster {dg.__version__} has changed it:"
    " switch it off. The sync's own time stays in the events' metadata."
)

try:
    from dagster._core.events import StepMaterializationData
    from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
except ImportError as error:
    raise SetupError(NOT_SUPPORTED) from error


def check_support() -> None:
    """Look before the first event is to be written.

    Raises:
        SetupError: This version of Dagster cannot date events.
    """
    if "timestamp" not in inspect.signature(dg.DagsterInstance.report_dagster_event).parameters:
        raise SetupError(NOT_SUPPORTED)


def write_dated(instance: dg.DagsterInstance, events: Iterable[AssetEvent], ended_at: Mapping[str, datetime]) -> None:
    """Write a tick's events one by one, each materialization with the time when its job ended.

    Args:
        instance: Where to.
        events: In the order in which they are to stand there.
        ended_at: When jobs ended, by their ids.
    """
    for event in events:
        if isinstance(event, dg.AssetMaterialization):
            _report_at(instance, event, at=ended_at[str(event.metadata[JOB_ID].value)])
        else:
            instance.report_runless_asset_event(event)


def _report_at(instance: dg.DagsterInstance, materialization: dg.AssetMaterialization, *, at: datetime) -> None:
    """As `report_runless_asset_event` does it, but for the time."""
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name=RUNLESS_JOB_NAME,
        event_specific_data=StepMaterializationData(materialization),
    )
    instance.report_dagster_event(event, run_id=RUNLESS_RUN_ID, timestamp=at.timestamp())
