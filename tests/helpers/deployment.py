"""A real Dagster deployment: webserver, code server and run workers as processes, driven over GraphQL."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import dagster as dg
import yaml
from dagster._core.scheduler.instigation import SensorInstigatorData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# runs start at once, without a daemon
SETTINGS: dict[str, Any] = {
    "telemetry": {"enabled": False},
    "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"},
}
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename
  ... on RepositoryLocation { repositories { name } } ... on PythonError { message } } } } } }"""
LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
RE_EXECUTE = """mutation Repeat($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation Terminate($run: String!) { terminateRun(runId: $run) { __typename
  ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
ENDS = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Deployment:
    """A webserver with one code location, in its own folder."""

    def __init__(
        self,
        home: Path,
        *,
        location: Path,
        port: int,
        env: dict[str, str],
        wait: Callable[..., Any],
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.home = home
        self.wait_until = wait
        (home / "dagster.yaml").write_text(yaml.safe_dump({**SETTINGS, **settings}))
        self._address = f"http://127.0.0.1:{port}/graphql"
        self._location_file = location
        self._env = {**os.environ, "DAGSTER_HOME": str(home), **env}
        self._process = self._start("dagster-webserver", "-h", "127.0.0.1", "-p", str(port))
        self.instance = dg.DagsterInstance.from_config(str(home))
        self._location = self._repository = ""

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name(program)), *arguments, "-f", str(self._location_file)]
        with (self.home / f"{program}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=self.home, env=self._env, stdout=log, stderr=log)

    @contextmanager
    def daemon(self, *, with_sensor: str) -> Iterator[None]:
        """Let Dagster's daemon run next to it, from the first tick of a sensor on."""
        process = self._start("dagster-daemon", "run")
        try:
            self.wait_until(lambda: self._cursor_of(with_sensor))
            yield
        finally:
            process.terminate()
            process.wait(120)

    def wait_until_loaded(self) -> None:
        """Wait for the code location."""
        self._location, self._repository = self.wait_until(self._loaded)

    def launch(self, *keys: dg.AssetKey, config: dict[str, Any] | None = None) -> str:
        """Launch a run of some assets; its id."""
        selection = [{"path": list(key.path)} for key in keys]
        return self.launch_job("__ASSET_JOB", config=config, assetSelection=selection)

    def launch_job(self, name: str, *, config: dict[str, Any] | None = None, **selection: object) -> str:
        """Launch a run of a job; its id."""
        return self._run_id(self.try_to_launch(name, config=config, **selection))

    def try_to_launch(self, name: str, *, config: dict[str, Any] | None = None, **selection: object) -> dict[str, Any]:
        """Launch a run of a job; the answer, which may be a refusal."""
        selector = {**self.repository, "pipelineName": name, **selection}
        params = {"selector": selector, "runConfigData": json.dumps(config or {}), "mode": "default"}
        answer: dict[str, Any] = self.ask(LAUNCH, params=params)["launchRun"]
        return answer

    @property
    def repository(self) -> dict[str, str]:
        """Where the definitions are, for questions about them."""
        return {"repositoryLocationName": self._location, "repositoryName": self._repository}

    def re_execute(self, run_id: str, *, strategy: str) -> str:
        """Launch what the UI's button for this strategy launches; the new run's id."""
        params = {"parentRunId": run_id, "strategy": strategy}
        return self._run_id(self.ask(RE_EXECUTE, params=params)["launchRunReexecution"])

    def terminate(self, run_id: str) -> None:
        """Do what the UI's button for ending a run does."""
        answer = self.ask(TERMINATE, run=run_id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def give_up(self, run_id: str) -> None:
        """Mark a run as canceled that nobody can reach, as the UI does by force and Dagster's run monitoring."""
        self.instance.report_run_canceled(self._run(run_id))

    def end_of(self, run_id: str) -> dg.DagsterRunStatus:
        """Wait for the end of a run; how it ended."""
        self.wait_until(lambda: self._run(run_id).status in ENDS)
        return self._run(run_id).status

    def adopted(self, run_id: str) -> dict[str, tuple[str, str]]:
        """The sync that a run follows for each table, and who started it, as the run has written it down."""
        found = {}
        for event in self._events(run_id, dg.DagsterEventType.ASSET_OBSERVATION):
            metadata = event.asset_observation_data.asset_observation.metadata
            job_id, by = metadata["posthog/job_id"].value, metadata["posthog/triggered_by"].value
            found[self._name(event)] = (str(job_id), str(by))
        return found

    def materialized(self, run_id: str) -> dict[str, str]:
        """The tables that a run has materialized, each with its sync."""
        events = self._events(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
        return {self._name(event): str(event.materialization.metadata["posthog/job_id"].value) for event in events}

    def log_of(self, run_id: str) -> str:
        """All that a run has logged."""
        return "\n".join(record.user_message for record in self.instance.all_logs(run_id))

    def failure_of(self, run_id: str) -> str:
        """What the failed step of a run ends with."""
        (event,) = self._events(run_id, dg.DagsterEventType.STEP_FAILURE)
        failure = event.step_failure_data.user_failure_data
        assert failure is not None, event.step_failure_data.error
        return str(failure.description)

    def process_of(self, run_id: str) -> int:
        """The id of the newest process in which steps of a run are executed."""
        found = []
        for record in self.instance.all_logs(run_id):
            event = record.dagster_event
            if event and (event.is_engine_event or event.event_type is dg.DagsterEventType.STEP_WORKER_STARTED):
                text = f"{event.message} {event.event_specific_data}"
                found += re.findall(r"pid: (\d+)|'pid': \w+\(text='(\d+)'\)", text)
        return int(next(filter(None, found[-1])))

    def count(self, run_id: str, kind: dg.DagsterEventType) -> int:
        """How many events of a kind a run has."""
        return len(self._events(run_id, kind))

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The answer of GraphQL to a question, as the UI asks them."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self._address, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310 - as above
                answer = json.load(response)
        except urllib.error.HTTPError as refused:
            # a refusal is an answer too
            answer = json.load(refused)
        assert not answer.get("errors"), answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def stop(self) -> None:
        """End the webserver; its code server and run workers end with it."""
        self.instance.dispose()
        self._process.terminate()
        self._process.wait(120)

    def _cursor_of(self, sensor: str) -> str | None:
        states = [state for state in self.instance.all_instigator_state() if state.instigator_name == sensor]
        data = states[0].instigator_data if states else None
        return data.cursor if isinstance(data, SensorInstigatorData) else None

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def _events(self, run_id: str, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        records = self.instance.all_logs(run_id, of_type=kind)
        return [record.dagster_event for record in records if record.dagster_event]

    def _name(self, event: dg.DagsterEvent) -> str:
        assert event.asset_key is not None
        return event.asset_key.path[-1]

    def _run_id(self, answer: dict[str, Any]) -> str:
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def _loaded(self) -> tuple[str, str] | None:
        assert self._process.poll() is None, (self.home / "dagster-webserver.log").read_text()
        try:
            entries = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        except OSError:
            return None
        for entry in entries:
            found = entry["locationOrLoadError"] or {}
            assert found.get("__typename") != "PythonError", found
            if found.get("repositories"):
                return entry["name"], found["repositories"][0]["name"]
        return None


class _Forward(BaseHTTPRequestHandler):
    """Hands a request on as it is, and its answer back."""

    target: ClassVar[str]
    seen: ClassVar[list[str]]

    def forward(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = HTTPConnection(urlsplit(self.target).netloc, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
        connection.request(self.command, self.path, body=body or None, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = forward  # noqa: N815 - the names that the library asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        """Nothing: what was asked for is in `seen`."""


@contextmanager
def counted(target: str) -> Iterator[tuple[str, Sequence[str]]]:
    """An address in front of the target's, and the list of its requests."""
    seen: list[str] = []
    handler = type("Forward", (_Forward,), {"target": target, "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()
