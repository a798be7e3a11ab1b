"""A real Dagster on this machine: `dagster dev` in a temporary folder, driven over GraphQL."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import httpx
from measuring import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

READY_WITHIN_S = 180
STOPPED_WITHIN_S = 60
TABLE_EVENTS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
# a launch writes two events for each table before it answers
ANSWER_WITHIN_S = 900
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError {
    ... on RepositoryLocation { repositories { name } } ... on PythonError { message } } } }
    ... on PythonError { message } } }"""
LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
TERMINATE = """mutation Terminate($run: String!) { terminateRun(runId: $run) { __typename
    ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
SETTINGS = "telemetry:\n  enabled: false\n"
ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


class DagsterDevError(Exception):
    """`dagster dev` did not do what was asked; the text says what it answered."""


@dataclass(frozen=True)
class FinishedRun:
    """A run, and what it wrote down.

    Attributes:
        status: How it ended.
        seconds: From its start to its end.
        materialized: When each job's table was materialized, a Unix time by job id.
        materializations: How many there were in all.
        step_pids: The processes that its steps ran in.
        events: How many events it wrote.
        table_events: How many of them are events of tables, rather than of the run and its steps.
        failure: The first failed step's error.
    """

    status: str
    seconds: float
    materialized: Mapping[str, float]
    materializations: int
    step_pids: frozenset[int]
    events: int
    table_events: int
    failure: str | None


@dataclass
class DagsterDev:
    """A running `dagster dev`."""

    process: subprocess.Popen[bytes]
    home: Path
    url: str
    location: str = ""
    repository: str = ""

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Its storage. Opened late, since two processes that create the same tables get in each other's way."""
        return dg.DagsterInstance.from_config(str(self.home))

    def wait_until_loaded(self) -> None:
        """Wait for the code location.

        Raises:
            DagsterDevError: It failed to load, or took too long.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._is_loaded():
                return
            time.sleep(0.5)
        raise DagsterDevError(f"dagster dev is not ready: {(self.home / 'dev.log').read_text()[-3000:]}")

    def launch(self, **tags: str) -> str:
        """Launch a run of all assets with the executor's defaults, and return its id.

        Args:
            **tags: Dagster's own tags of the run, without `dagster/`.

        Raises:
            DagsterDevError: Dagster refused.
        """
        selector = {
            "repositoryLocationName": self.location,
            "repositoryName": self.repository,
            "pipelineName": "__ASSET_JOB",
        }
        metadata = {"tags": [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()]}
        params = {"selector": selector, "runConfigData": "{}", "mode": "default", "executionMetadata": metadata}
        answer = self._ask(LAUNCH, params=params)["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterDevError(f"The run was not launched: {answer}")
        return answer["run"]["runId"]

    def terminate(self, run_id: str) -> None:
        """Do what the UI's button for ending a run does.

        Raises:
            DagsterDevError: Dagster could not.
        """
        answer = self._ask(TERMINATE, run=run_id)["terminateRun"]
        if answer["__typename"] != "TerminateRunSuccess":
            raise DagsterDevError(f"The run was not terminated: {answer}")

    def finish(self, run_id: str, *, within_s: float) -> FinishedRun:
        """Wait for the end of a run, and read its event log.

        Raises:
            DagsterDevError: It did not end in time.
        """
        deadline = time.monotonic() + within_s
        while self._run(run_id).dagster_run.status not in ENDED:
            if time.monotonic() > deadline:
                raise DagsterDevError(f"The run did not end within {within_s:.0f} s.")
            time.sleep(1)
        return self._read(run_id)

    def _read(self, run_id: str) -> FinishedRun:
        record, entries = self._run(run_id), self.instance.all_logs(run_id)
        events = [(entry, entry.dagster_event) for entry in entries if entry.dagster_event]
        of = dg.DagsterEventType
        materializations = [(e, d) for e, d in events if d.event_type is of.ASSET_MATERIALIZATION]
        started = [d for _, d in events if d.event_type is of.STEP_WORKER_STARTED]
        failed = [d for _, d in events if d.event_type is of.STEP_FAILURE]
        return FinishedRun(
            status=record.dagster_run.status.value,
            seconds=record.end_time - record.start_time,
            materialized={_job_id(event): entry.timestamp for entry, event in materializations},
            materializations=len(materializations),
            step_pids=frozenset(int(event.engine_event_data.metadata["pid"].text) for event in started),
            events=len(entries),
            table_events=sum(event.event_type in TABLE_EVENTS for _, event in events),
            failure=str(failed[0].step_failure_data.error)[:2000] if failed else None,
        )

    def _run(self, run_id: str) -> dg.RunRecord:
        return self.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))[0]

    def _is_loaded(self) -> bool:
        try:
            entries = self._ask(LOCATIONS)["workspaceOrError"].get("locationEntries", [])
        except httpx.HTTPError:
            return False
        for entry in entries:
            found = entry["locationOrLoadError"] or {}
            if "message" in found:
                raise DagsterDevError(found["message"][:3000])
            if found.get("repositories"):
                self.location, self.repository = entry["name"], found["repositories"][0]["name"]
                return True
        return False

    def _ask(self, query: str, **variables: object) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=ANSWER_WITHIN_S
        )
        body = answer.raise_for_status().json()
        if body.get("errors"):
            raise DagsterDevError(json.dumps(body["errors"])[:3000])
        return body["data"]


@contextmanager
def dagster_dev(definitions: str, *, environment: Mapping[str, str], settings: str = SETTINGS) -> Iterator[DagsterDev]:
    """`dagster dev` on a file, by its path from this folder, ready; it and its folder are gone afterwards."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        (home / "dagster.yaml").write_text(settings)
        (home / "tmp").mkdir()
        port = free_port()
        # temporary files too stay in the folder: the count of requests, that is shared between runs, among them
        own = {
            "DAGSTER_HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            # compiled code is kept, as where a package is installed
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        command = [str(Path(sys.executable).with_name("dagster")), "dev", "-f", str(HERE / definitions)]
        log = stack.enter_context((home / "dev.log").open("wb"))
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=home,
            env={**os.environ, **own, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(_stop, process)
        dev = DagsterDev(process, home, f"http://127.0.0.1:{port}")
        dev.wait_until_loaded()
        stack.enter_context(dev.instance)
        yield dev


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        # its session is its own, so nothing else is in the group
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _job_id(event: dg.DagsterEvent) -> str:
    return str(event.step_materialization_data.materialization.metadata["posthog/job_id"].value)


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
