"""The one place that puts resources, assets, schedules and sensors together."""

from dw_orchestration.component.component import PostHogWarehouseComponent, not_connected

__all__ = ["PostHogWarehouseComponent", "not_connected"]
