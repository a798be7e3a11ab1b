"""A selection in Python: the tables that PostHog syncs more than once a day."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg

from dw_orchestration import Table


def is_synced_often(table: Table) -> bool:
    """Whether PostHog syncs the table more than once a day."""
    return table.cadence is not None and table.cadence.every < timedelta(days=1)


@dg.template_var
def synced_often() -> Callable[[Table], bool]:
    """The function, under the name that YAML uses."""
    return is_synced_often
