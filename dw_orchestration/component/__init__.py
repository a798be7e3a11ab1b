"""The one place that puts resources, assets, schedules and sensors together."""

from dw_orchestration.component.problems import not_connected
from dw_orchestration.component.warehouse_component import PostHogWarehouseComponent

__all__ = ["PostHogWarehouseComponent", "not_connected"]
