"""One declaration per operation, from which its job in the Dagster UI and its `dw` command are both made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.operations.report import Report


class Params(BaseModel):
    """What a user may set for an operation. The names are those of the launchpad, of the command and in Python.

    The first of a field's `examples` is in the example on the page of the job.

    Attributes:
        left_out: How the launchpad shows a field that is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    left_out: ClassVar[str] = ""


UNCHANGED = "unchanged"
A_TABLE = "postgres_shop.orders"
A_SOURCE = "postgres_shop"


def argument(metavar: str, description: str, **more: Any) -> Any:
    """A field that the command takes by position, such as `dw sync TABLE...`."""
    return Field(description=description, json_schema_extra={"metavar": metavar}, **more)


class TablesParams(Params):
    """Some tables."""

    tables: list[str] = argument(
        "TABLE...",
        "Tables by name, asset key or id (`stripe_acme.Customer`, `acme.Customer`), or patterns (`stripe.*`).",
        examples=[[A_TABLE]],
    )


class SomeTablesParams(Params):
    """Some tables, or all."""

    tables: list[str] = argument(
        "[TABLE...]",
        "Tables by name, asset key or id, or patterns (`stripe.*`); all tables if none is given.",
        default=[],
    )


class DryRunParams(Params):
    """What can be shown before it is done."""

    dry_run: bool = Field(
        default=False, description="Only show what would be done. Nothing is changed.", examples=[True]
    )


class ChangedTablesParams(TablesParams, DryRunParams):
    """Some tables that are changed."""


class ConfirmedTablesParams(TablesParams, DryRunParams):
    """Some tables that lose their rows."""

    confirm: list[str] = Field(
        default=[],
        description="Repeat the name of every table to confirm (no patterns). Otherwise nothing is deleted.",
        examples=[[A_TABLE]],
    )


class TableParams(Params):
    """One table."""

    table: str = argument("TABLE", "A table by name, asset key or id: `stripe_acme.Customer`.", examples=[A_TABLE])


class SourceParams(Params):
    """One source."""

    source: str = argument("SOURCE", "A source by name (`stripe`, `postgres_shop`), prefix or id.", examples=[A_SOURCE])


SECRETS = (
    'For a secret, name an environment variable instead: `{"env": "DB_PASSWORD"}`. Dagster stores the config of every'
    " run, so a job refuses secrets that are written out."
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Something that a user can do to sources and tables.

    Attributes:
        name: The job is named `<resource_key>_<name>`.
        command: The words of the command after `dw`.
        params: What a user may set. The field names are the keyword arguments of `run`.
        run: Does it, and reports what it did.
        description: For the page of the job and the help of the command.
        examples: Commands as a user types them, without `dw`.
        deletes: Whether it deletes data: then only a person may launch its job.
        has_job: Whether there is a job for it in the Dagster UI.
    """

    name: str
    command: str
    params: type[Params]
    run: Callable[..., Report]
    description: str
    examples: Sequence[str] = ()
    deletes: bool = False
    has_job: bool = True

    def carry_out(self, project: Project, params: Params) -> Report:
        """Do it.

        Raises:
            UsageError: It cannot be done as asked; nothing was changed.
            PostHogError: PostHog refused it, or is unreachable.
        """
        return self.run(project, **dict(params))

    @property
    def confirms_by_name(self) -> bool:
        """Whether a user has to repeat the names of what it changes."""
        return "confirm" in self.params.model_fields

    def payloads(self) -> Iterator[str]:
        """The fields that hold mappings for PostHog, in which `{"env": "NAME"}` names an environment variable."""
        for name, field in self.params.model_fields.items():
            if "dict[" in str(field.annotation):
                yield name
