"""Loads a file or module of definitions, materializes all of it in this process, and prints what came of it as JSON."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg


def main(module_name: str) -> None:
    """Materialize everything; the number of rows of each asset, and what it is made of."""
    sys.path.insert(0, str(Path.cwd()))
    loaded: Any = import_module(module_name).defs
    defs: dg.Definitions = loaded()
    with dg.DagsterInstance.ephemeral() as instance:
        run = defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, raise_on_error=False)
    graph = defs.resolve_asset_graph()
    materialized = {event.asset_key: event.materialization.metadata for event in run.get_asset_materialization_events()}
    assets = {
        key.to_user_string(): {
            "rows": rows.value if (rows := metadata.get("dagster/row_count")) else None,
            "upstream": sorted(each.to_user_string() for each in graph.get(key).parent_keys),
        }
        for key, metadata in materialized.items()
        if key is not None
    }
    print(json.dumps({"success": run.success, "assets": assets}))  # noqa: T201 - that is what the test reads


if __name__ == "__main__":
    main(sys.argv[1])
