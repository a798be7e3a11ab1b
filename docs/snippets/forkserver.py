"""Processes of steps that start from one process, which has imported everything once."""

import dagster as dg

# the module that your code location is loaded from, and all that takes long to import
preloaded = ["dagster", "dw_orchestration.component"]

defs = dg.Definitions(
    executor=dg.multiprocess_executor.configured({"start_method": {"forkserver": {"preload_modules": preloaded}}})
)
