"""The warehouse's own cadences as Dagster schedules."""

from dw_orchestration.schedules.cadences import build_posthog_schedules
from dw_orchestration.schedules.mode import SchedulingMode

__all__ = ["SchedulingMode", "build_posthog_schedules"]
