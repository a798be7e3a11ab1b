"""What the warehouse did by itself, as Dagster events."""

from dw_orchestration.sensors.drift import build_drift_check, build_drift_sensor
from dw_orchestration.sensors.job_status import build_job_status_sensor
from dw_orchestration.sensors.terminated_runs import build_terminated_runs_sensor

__all__ = ["build_drift_check", "build_drift_sensor", "build_job_status_sensor", "build_terminated_runs_sensor"]
