"""What assets, sensors and schedules are given to reach the warehouse."""

from dw_orchestration.resources.local import LocalWarehouse
from dw_orchestration.resources.snapshot import WarehouseSnapshot
from dw_orchestration.resources.warehouse import PostHogWarehouseResource, WarehouseResource

__all__ = ["LocalWarehouse", "PostHogWarehouseResource", "WarehouseResource", "WarehouseSnapshot"]
