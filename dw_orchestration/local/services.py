"""The parts of the embedded warehouse, as those who use several of them get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from dw_orchestration.local.behaviours import Behaviours
    from dw_orchestration.local.queries import Queries
    from dw_orchestration.local.runner import Runner
    from dw_orchestration.local.store import Store
    from dw_orchestration.local.syncing import Connector, Warehouse


@dataclass(frozen=True, slots=True)
class Services:
    """The state, the tables, the workers, the queries, what is to go wrong on request, the sources, and the time."""

    store: Store
    warehouse: Warehouse
    runner: Runner
    queries: Queries
    behaviours: Behaviours
    connect: Callable[[str, Mapping[str, object]], Connector]
    now: Callable[[], datetime]
