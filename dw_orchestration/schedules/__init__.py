"""PostHog's cadences as Dagster schedules."""

from dw_orchestration.schedules.mode import SchedulingMode
from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.schedules.schedules import build_posthog_schedules

__all__ = ["ScheduleOverride", "SchedulingMode", "build_posthog_schedules"]
