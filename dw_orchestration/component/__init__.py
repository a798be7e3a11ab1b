"""The one place that puts resources, assets, schedules and sensors together."""

from dw_orchestration.component.component import PostHogWarehouseComponent

__all__ = ["PostHogWarehouseComponent"]
