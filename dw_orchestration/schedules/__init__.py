"""PostHog's cadences as Dagster schedules."""

from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.schedules.schedules import build_posthog_schedules
from dw_orchestration.tables.scheduling import SchedulingMode

__all__ = ["ScheduleOverride", "SchedulingMode", "build_posthog_schedules"]
