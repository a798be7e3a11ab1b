"""What the warehouse did by itself, as Dagster events."""

from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor
from dw_orchestration.sensors.job_status import build_job_status_sensor

__all__ = ["build_drift_check", "build_drift_sensor", "build_job_status_sensor"]
