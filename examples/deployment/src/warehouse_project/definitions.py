"""What every process loads. Where there is a broker, Celery's workers execute the steps."""

import os
from pathlib import Path

import dagster as dg
import yaml
from dagster_celery import celery_executor

CELERY = Path(os.environ.get("CELERY_SETTINGS", "/opt/dagster/app/celery.yaml"))


@dg.definitions
def defs() -> dg.Definitions:
    """All components of this project."""
    loaded = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(loaded, dg.Definitions(executor=executor()))


def executor() -> dg.ExecutorDefinition:
    """Celery with the settings that its workers have, or Dagster's own."""
    if "CELERY_BROKER" not in os.environ:
        return dg.multi_or_in_process_executor
    settings = yaml.safe_load(CELERY.read_text())["execution"]["config"]
    return celery_executor.configured(settings, name="celery_of_this_project")
