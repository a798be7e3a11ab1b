"""The default code location, whose runs execute their steps in one process: each further one imports Dagster again."""

import os

import dagster as dg

from dw_orchestration.definitions import definitions_for


@dg.definitions
def defs() -> dg.Definitions:
    """What `make run` serves."""
    return dg.Definitions.merge(definitions_for(os.environ), dg.Definitions(executor=dg.in_process_executor))
