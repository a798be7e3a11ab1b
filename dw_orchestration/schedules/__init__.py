"""PostHog's cadences as Dagster schedules."""

from dw_orchestration.schedules.overrides import ScheduleOverride
from dw_orchestration.schedules.schedules import SchedulingMode, build_posthog_schedules

__all__ = ["ScheduleOverride", "SchedulingMode", "build_posthog_schedules"]
