"""The warehouse that a command connects to. Only this module of the command reads the environment.

--project-id, --api-key, --host     a PostHog project; also POSTHOG_PROJECT_ID, POSTHOG_PERSONAL_API_KEY, POSTHOG_HOST
--home                              the folder of an embedded warehouse; also DW_ORCHESTRATION_HOME

DW_ORCHESTRATION_REQUEST_BUDGET is where all machines count their requests. It contains a password, so it is no option.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dw_orchestration.cli.streams import write_lines
from dw_orchestration.operations.project import Project
from dw_orchestration.tables.errors import SetupError, UsageError
from dw_orchestration.text import visible_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dw_orchestration.posthog.client import PostHogWarehouseClient

US_CLOUD = "https://us.posthog.com"
DEFAULT_HOME = Path(".dw_orchestration")
HOST_VARIABLE = "POSTHOG_HOST"
PROJECT_VARIABLE = "POSTHOG_PROJECT_ID"
KEY_VARIABLE = "POSTHOG_PERSONAL_API_KEY"
HOME_VARIABLE = "DW_ORCHESTRATION_HOME"
BUDGET_VARIABLE = "DW_ORCHESTRATION_REQUEST_BUDGET"
EMBEDDED = "embedded warehouse"
# of the embedded warehouse
STATE = "state.sqlite"


def from_environment() -> Connection:
    """The connection of a command without options: that of the shell's completion."""
    return Connection(
        host=variable(HOST_VARIABLE) or US_CLOUD,
        project_id=variable(PROJECT_VARIABLE),
        api_key=variable(KEY_VARIABLE),
        home=Path(variable(HOME_VARIABLE) or nearest_home()),
    )


def nearest_home() -> Path:
    """The folder of the embedded warehouse of this project: here or, as git looks for `.git`, in a folder above."""
    here = Path.cwd()
    homes = (folder / DEFAULT_HOME for folder in (here, *here.parents))
    return next((home for home in homes if (home / STATE).exists()), DEFAULT_HOME)


def variable(name: str) -> str | None:
    """The value of an environment variable, which a payload names."""
    return os.environ.get(name)


def _say(text: str) -> None:
    write_lines(visible_lines(text), sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What the options and the environment say about the warehouse.

    Attributes:
        host: PostHog's server.
        project_id: The project, if one is named.
        api_key: The key, if one is given.
        home: The folder of the embedded warehouse, and of what is kept about projects.
        typed: Those on the command line itself, which override the environment.
    """

    host: str = US_CLOUD
    project_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    home: Path = DEFAULT_HOME
    typed: frozenset[str] = frozenset()

    @property
    def home_is_asked_for(self) -> bool:
        """Whether the folder was named in the call, and not by the environment."""
        return "home" in self.typed

    @property
    def is_embedded(self) -> bool:
        """Whether it is an embedded warehouse: asked for, or no project is named."""
        return self.home_is_asked_for or not (self.project_id or self.api_key)

    @property
    def name(self) -> str:
        """The project's place in files about it; the same as in the Dagster UI."""
        return EMBEDDED if self.is_embedded else self.host.rstrip("/")

    @contextmanager
    def project(self) -> Iterator[Project]:
        """The project, for the time of a `with` statement.

        Raises:
            UsageError: A folder and a project are both asked for.
            SetupError: Nothing, or too little, says which warehouse is meant.
        """
        if self.home_is_asked_for and (rivals := self.typed - {"home"}):
            options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(rivals))
            raise UsageError(f"--home names an embedded warehouse, {options} a PostHog project: give one of the two.")
        with self._embedded() if self.is_embedded else self._posthog() as client:
            yield Project(client, self.name)

    def _posthog(self) -> PostHogWarehouseClient:
        from dw_orchestration.posthog.client import PostHogWarehouseClient
        from dw_orchestration.posthog.rate_limit import RateLimits

        if not self.project_id or not self.api_key:
            missing = f"{KEY_VARIABLE} (or --api-key)" if self.project_id else f"{PROJECT_VARIABLE} (or --project-id)"
            raise SetupError(
                f"{missing} is not set. Set the project and its key, or neither for an embedded warehouse."
            )
        limits = RateLimits(server=variable(BUDGET_VARIABLE) or None)
        return PostHogWarehouseClient(self.host, self.project_id, self.api_key, rate_limits=limits, notify=_say)

    def _embedded(self) -> PostHogWarehouseClient:
        if not (self.home / STATE).exists():
            text = f"There is no embedded warehouse in {self.home.absolute()}"
            if self.home_is_asked_for:
                raise SetupError(f"{text}. Name the folder that the code location uses as its home.")
            raise SetupError(
                f"No warehouse is named: set {PROJECT_VARIABLE} and {KEY_VARIABLE} for a PostHog project, or --home for"
                f" an embedded warehouse. {text} or above; Dagster makes one when it loads a project that has one"
                " (`dagster dev`), and `make run` in a checkout."
            )
        from dw_orchestration.resources.embedded_process import EmbeddedProcess

        return EmbeddedProcess(self.home, shop=(self.home / "shop").exists()).client()
