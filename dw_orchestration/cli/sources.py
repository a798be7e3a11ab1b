"""Commands that change sources and their webhooks."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from dw_orchestration.cli.options import Json, Source
from dw_orchestration.cli.output import carry_out, session_of
from dw_orchestration.operations import sources as operations
from dw_orchestration.operations import webhooks
from dw_orchestration.tables.errors import UsageError

source_app = typer.Typer(no_args_is_help=True, help="Create, change and delete sources.")
webhook_app = typer.Typer(no_args_is_help=True, help="Show, create and delete the webhook of a source.")

SECRETS = 'A value {"env": "NAME"} stands for an environment variable.'
Payload = Annotated[
    Path,
    typer.Option(
        "--payload",
        metavar="FILE",
        help=f"A JSON file with the fields of the connection and the schemas, or - to read them. {SECRETS}",
    ),
]
SomePayload = Annotated[
    Path | None,
    typer.Option(
        "--payload", metavar="FILE", help=f"A JSON file with the fields that change, or - to read them. {SECRETS}"
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option("--inputs", metavar="FILE", help=f"A JSON file with what the provider needs, or -. {SECRETS}"),
]
Description = Annotated[str | None, typer.Option(help="For people.")]


@source_app.command("create")
def create(
    ctx: typer.Context,
    source_type: Annotated[str, typer.Argument(metavar="TYPE", help="As PostHog spells it: Postgres, Stripe, ...")],
    *,
    payload: Payload,
    prefix: Annotated[str | None, typer.Option(help="Stands before every table's name, for ever.")] = None,
    description: Description = None,
    access_method: Annotated[str | None, typer.Option(help="warehouse (the default) or direct.")] = None,
    as_json: Json = False,
) -> int:
    """Create a source; PostHog tests the connection first."""
    values = _values(ctx, payload, as_json=as_json)
    return carry_out(
        ctx,
        lambda project: operations.create_source(
            project, source_type, values, prefix=prefix, description=description, access_method=access_method
        ),
        as_json=as_json,
    )


@source_app.command("update")
def update(
    ctx: typer.Context,
    source: Source,
    *,
    payload: SomePayload = None,
    description: Description = None,
    as_json: Json = False,
) -> int:
    """Change a source's description or connection; secrets that are left out stay."""
    values = _values(ctx, payload, as_json=as_json) if payload else None
    return carry_out(
        ctx,
        lambda project: operations.update_source(project, source, description=description, job_inputs=values),
        as_json=as_json,
    )


@source_app.command("delete")
def delete(
    ctx: typer.Context,
    source: Source,
    *,
    confirm: Annotated[str, typer.Option(metavar="SOURCE", help="The source's full name once more.")] = "",
    as_json: Json = False,
) -> int:
    """Delete a source with its tables and all their rows; --confirm has to repeat its name."""
    return carry_out(ctx, lambda project: operations.delete_source(project, source, confirm=confirm), as_json=as_json)


@webhook_app.command("show")
def show_webhook(ctx: typer.Context, source: Source, *, as_json: Json = False) -> int:
    """Say whether a source's webhook exists, and where."""
    return carry_out(ctx, lambda project: webhooks.show_webhook(project, source), as_json=as_json)


@webhook_app.command("create")
def create_webhook(ctx: typer.Context, source: Source, *, inputs: Inputs = None, as_json: Json = False) -> int:
    """Register the webhook of a source, unless there is one."""
    values = _values(ctx, inputs, as_json=as_json) if inputs else None
    return carry_out(ctx, lambda project: webhooks.create_webhook(project, source, inputs=values), as_json=as_json)


@webhook_app.command("delete")
def delete_webhook(ctx: typer.Context, source: Source, *, as_json: Json = False) -> int:
    """Remove the webhook of a source; no table must use it any more."""
    return carry_out(ctx, lambda project: webhooks.delete_webhook(project, source), as_json=as_json)


def _values(ctx: typer.Context, path: Path, *, as_json: bool) -> dict[str, object]:
    """The fields in a file, with what they name in its place.

    Raises:
        UsageError: The file is not there or holds no JSON object, or a variable is not set.
    """
    session = session_of(ctx, as_json=as_json)
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        # where it is wrong, not what stands there
        position = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        problem = f"{name} is no JSON{position}."
    else:
        problem = f"{name} holds no JSON object."
        if isinstance(found, dict):
            return session.values(found)
    raise UsageError(problem)
