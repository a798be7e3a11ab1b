"""The warehouse's own cadences as Dagster schedules."""

from dw_orchestration.schedules.cadences import build_posthog_schedules
from dw_orchestration.schedules.mode import SchedulingMode
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.schedules.takeover_job import build_takeover_job

__all__ = ["ScheduleOverride", "SchedulingMode", "build_posthog_schedules", "build_takeover_job"]
