"""The Dagster resource that reaches a PostHog project's warehouse."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self
from urllib.parse import quote

import dagster as dg
from pydantic import Field, ValidationError

from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_MINUTE
from dw_orchestration.posthog.rate_limit import RateLimits
from dw_orchestration.posthog.retries import RetryPolicy
from dw_orchestration.posthog.transport import Timeouts, warn_of_clear_text
from dw_orchestration.resources.reading import TableReader
from dw_orchestration.resources.syncing import TableSyncer
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.snapshot import WarehouseSnapshot

# Dagster+ sets it to 1 for everything that runs in a branch deployment
_IN_BRANCH_DEPLOYMENT = dg.EnvVar("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT")
# how Dagster marks a field whose value its UI must not show, and what it shows and prefills the launchpad with instead
IS_SECRET = "dagster__is_secret"  # noqa: S105  a name
_MASK = "********"


class WarehouseResource(TableReader, TableSyncer, dg.ConfigurableResource[PostHogWarehouseClient]):
    """A warehouse that speaks PostHog's external data API; what assets and sensors ask for."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it: the host, or the embedded warehouse."""

    @abstractmethod
    def client(self) -> PostHogWarehouseClient:
        """A new client; close it, or use it in a `with` statement.

        Raises:
            SetupError: The settings do not lead to a warehouse.
        """

    @contextmanager
    def connect(self, *, finish_within_s: float | None = None) -> Iterator[PostHogWarehouseClient]:
        """A client for the time of a `with` statement.

        Args:
            finish_within_s: As for `PostHogWarehouseClient.finish_within`; by default there is no such time.
        """
        with self.client() as client:
            if finish_within_s is not None:
                client.finish_within(finish_within_s)
            yield client

    def take_snapshot(self, *, previous: WarehouseSnapshot | None = None) -> WarehouseSnapshot:
        """Fetch the state that definitions are built from.

        Args:
            previous: As for `WarehouseSnapshot.take`.

        Raises:
            PostHogError: The API could not be read; the text says what to do.
            SetupError: The settings do not lead to a warehouse.
            SnapshotError: There are sources, and none of them can be read.
        """
        with self.client() as client:
            return WarehouseSnapshot.take(client, host=self.name, project_id=client.project_id, previous=previous)

    def with_environment(self) -> Self:
        """The same with the values of its `dg.EnvVar`s, as Dagster fills them in for a run.

        Raises:
            SetupError: A variable is not set, or its value is not possible for the setting.
        """
        settings = {name: getattr(self, name) for name in type(self).model_fields}
        variables = {name: value for name, value in settings.items() if _is_variable(value)}
        if not variables:
            return self
        try:
            filled_in = {name: value.get_value() for name, value in variables.items()}
            if missing := [variables[name].env_var_name for name, value in filled_in.items() if value is None]:
                raise SetupError(f"{', '.join(missing)} is not set in the environment.")
            return type(self)(**settings | filled_in)
        except ValueError as error:
            names = ", ".join(f"{name} ({value.env_var_name})" for name, value in variables.items())
            # without the value, which may be a secret
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "not a number"
            raise SetupError(f"A setting from the environment is invalid: {problem}. Check {names}.") from None

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        """The resource of a run. Where the launchpad has sent its mask, the secret is the one of the definitions."""
        masked = [name for name, field in type(self).model_fields.items() if getattr(self, name) == _MASK]
        definition = context.resource_def
        if not masked or definition is None or not definition.config_schema.default_provided:
            return super().create_resource(context)
        configured = definition.config_schema.default_value
        values = {name: _configured(configured[name]) for name in masked if name in configured}
        settings = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**settings | values).with_environment()

    @property
    def project(self) -> str | None:
        """Which project of PostHog's it is, as a part of a file's name; None where the settings name none."""
        return None

    def is_origin_of(self, snapshot: WarehouseSnapshot) -> bool:
        """Whether a snapshot was taken of this warehouse, and not of another one."""
        return snapshot.host == self.name


class PostHogWarehouseResource(WarehouseResource):
    """A PostHog project on PostHog Cloud or on a server of your own.

    Example:
        ```python
        PostHogWarehouseResource(
            project_id=dg.EnvVar("POSTHOG_PROJECT_ID"),
            api_key=dg.EnvVar("POSTHOG_PERSONAL_API_KEY"),
        )
        ```
    """

    host: str = Field(
        default="https://us.posthog.com",
        description="Where the PostHog app runs: https://us.posthog.com, https://eu.posthog.com, or your own server."
        " Not the ingestion host (`*.i.posthog.com`).",
    )
    project_id: str = Field(description="The number in the address of the project's pages, or `@current`.")
    api_key: str = Field(
        description="A personal API key (phx_…) with the scopes external_data_source:read; to start syncs,"
        " external_data_source:write; and to read tables, query:read. Use `dg.EnvVar`: Dagster shows and stores what"
        " is written out.",
        repr=False,
        json_schema_extra={IS_SECRET: True},
    )
    read_only: bool | None = Field(
        default=None,
        description="Refuse every request that would change anything in PostHog, before it is sent. Without a value:"
        " in branch deployments of Dagster+, so that a pull request never syncs, and is never billed for, the tables"
        " that production does.",
    )
    requests_per_minute: int = Field(
        default=DEFAULT_REQUESTS_PER_MINUTE,
        ge=0,
        description="How many requests a minute, and ten times as many an hour, all processes of this machine, or with"
        " `request_budget` of all machines, may send with this key; 0 for no limit. The default is half of what PostHog"
        " allows, because others use it too.",
    )
    request_budget: str | None = Field(
        default=None,
        description="Where the requests of all machines that use this key are counted: `postgresql://…`, which can be"
        " the database of Dagster's own storage, or `redis://…`. Needs the extra `postgres` or `redis`. Without it,"
        " each machine counts its own. Use `dg.EnvVar`, since the address contains a password.",
        repr=False,
        json_schema_extra={IS_SECRET: True},
    )
    request_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that PostHog may be silent before a request counts as failed. Requests for which PostHog"
        " asks the source itself have ten times as long. An answer that arrives slowly has four times as long in all.",
    )
    max_attempts: int = Field(
        default=4,
        ge=1,
        description="How often a request is sent at most if it fails in passing and may be repeated without harm, with"
        " growing pauses; 1 never repeats. A request that starts a sync is not repeated once it was sent.",
    )

    @property
    def name(self) -> str:
        """The host, which serves the project's pages too; empty if its variable is not set."""
        return (_from_environment(self.host) or "").rstrip("/")

    def client(self) -> PostHogWarehouseClient:
        """A new client of this project.

        Raises:
            SetupError: The host, the project id, the key or the budget's address cannot be right, or the extra for the
                budget is not installed.
        """
        ready = self.with_environment()
        per_minute, server = ready.requests_per_minute, ready.request_budget or None
        limits = RateLimits(per_minute=per_minute, per_hour=10 * per_minute, server=server) if per_minute else None
        return PostHogWarehouseClient(
            ready.host,
            ready.project_id,
            ready.api_key,
            read_only=ready.refuses_changes,
            timeouts=Timeouts(
                read_s=ready.request_timeout_s,
                slow_read_s=10 * ready.request_timeout_s,
                total_s=4 * ready.request_timeout_s,
            ),
            retry=RetryPolicy(attempts=ready.max_attempts),
            rate_limits=limits,
            # in the log of the run that waits
            notify=dg.get_dagster_logger("dw_orchestration").warning,
        )

    @property
    def refuses_changes(self) -> bool:
        """Whether it is read-only: as set, or else by the deployment that this process runs in."""
        if self.read_only is not None:
            return self.read_only
        # asked for here and when needed, so that resources made in YAML and in Python have the same default
        return _IN_BRANCH_DEPLOYMENT.get_value() == "1"

    @property
    def project(self) -> str | None:
        """`<id>@<host>`; None for `@current` and where a variable is not set, as in a checkout without any settings."""
        host, own_id = (_from_environment(value) for value in (self.host, self.project_id))
        if not host or not own_id or own_id.strip() == "@current":
            return None
        server = host.strip().rstrip("/").lower().rpartition("://")[2]
        return f"{quote(own_id.strip(), safe='')}@{quote(server, safe='')}"

    def get_resource_definition(self) -> Any:
        """The resource as definitions hold it: when they load is the time to report how its key is exposed."""
        if self.api_key and not _is_variable(self.api_key):
            _warn_of_literal_key(self.project_id)
        if self.request_budget and not _is_variable(self.request_budget):
            _warn_of_literal_budget()
        warn_of_clear_text(self.name)
        return super().get_resource_definition()

    def is_origin_of(self, snapshot: WarehouseSnapshot) -> bool:
        """Whether a snapshot was taken of this project; `@current` may be any project of its host.

        What is not set, as in a checkout without any settings, does not speak against it: a committed state serves.
        """
        host, own_id = (_from_environment(value) for value in (self.host, self.project_id))
        is_host = snapshot.project_url is not None if not host else snapshot.host == host.rstrip("/")
        return is_host and (not own_id or own_id.strip() in ("", "@current", snapshot.project_id))


@cache
def _warn_of_literal_key(project_id: str) -> None:
    """Once per process and project, as definitions ask for their resources several times."""
    dg.get_dagster_logger("dw_orchestration").warning(
        f"The API key of the project {_from_environment(project_id)} is written out, so Dagster keeps it in clear where"
        " it stores the config schemas of jobs: in the snapshots in the run storage, and in Dagster+. Its UI shows a"
        ' mask. Use `dg.EnvVar("POSTHOG_PERSONAL_API_KEY")`, in YAML "{{ env.POSTHOG_PERSONAL_API_KEY }}", and replace'
        " the key in PostHog."
    )


@cache
def _warn_of_literal_budget() -> None:
    """Once per process, as for the key."""
    dg.get_dagster_logger("dw_orchestration").warning(
        "The address of the request budget is written out, so Dagster keeps it in clear where it stores the config"
        ' schemas of jobs. Use `dg.EnvVar("DW_ORCHESTRATION_REQUEST_BUDGET")`, in YAML'
        ' "{{ env.DW_ORCHESTRATION_REQUEST_BUDGET }}", and change the password.'
    )


def _is_variable(value: object) -> bool:
    """Whether it is a `dg.EnvVar` or a `dg.EnvVar.int`, which are not resolved outside of a run."""
    return hasattr(value, "env_var_name")


def _configured(value: Any) -> Any:
    """A setting in the definitions' config, where `{"env": name}` is a `dg.EnvVar`."""
    return dg.EnvVar(value["env"]) if isinstance(value, dict) else value


def _from_environment(value: str) -> str | None:
    """A setting, or what the environment has for its `dg.EnvVar`, which is not resolved outside of a run."""
    return value.get_value() if isinstance(value, dg.EnvVar) else value
