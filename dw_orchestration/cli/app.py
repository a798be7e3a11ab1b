"""The command with its subcommands and the options that all of them share."""

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from dw_orchestration.cli import connection as connections
from dw_orchestration.cli.commands import command_of, options_of
from dw_orchestration.cli.cost import EXAMPLES as COST_EXAMPLES
from dw_orchestration.cli.cost import cost
from dw_orchestration.cli.logs import EXAMPLES as LOGS_EXAMPLES
from dw_orchestration.cli.logs import logs
from dw_orchestration.cli.output import KNOWN, MEANINGS, Exit, Session
from dw_orchestration.cli.query import EXAMPLES as QUERY_EXAMPLES
from dw_orchestration.cli.query import query
from dw_orchestration.cli.syncing import EXAMPLES as SYNC_EXAMPLES
from dw_orchestration.cli.syncing import sync
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.version import __version__

EXITS = "Exit status: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


class Dw(TyperGroup):
    """The command; what goes wrong in it ends with one sentence and its exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand, and exit with what it returns."""
        try:
            code = super().invoke(ctx)
        except KNOWN as error:
            session = ctx.obj if isinstance(ctx.obj, Session) else Session(connections.Connection())
            code = session.fail(error)
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted.\n")
            code = Exit.INTERRUPTED
        raise typer.Exit(code or Exit.DONE)


app = typer.Typer(
    name="dw",
    cls=Dw,
    no_args_is_help=True,
    # a traceback of theirs can show the values of variables, and one of these is the key
    pretty_exceptions_enable=False,
    # help without boxes fits 80 columns
    rich_markup_mode=None,
    epilog=EXITS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("sync", **options_of(help_text=sync.__doc__ or "", examples=SYNC_EXAMPLES))(sync)
app.command("logs", **options_of(help_text=logs.__doc__ or "", examples=LOGS_EXAMPLES))(logs)
app.command("query", **options_of(help_text=query.__doc__ or "", examples=QUERY_EXAMPLES))(query)
app.command("cost", **options_of(help_text=cost.__doc__ or "", examples=COST_EXAMPLES))(cost)
groups = {
    name: typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=text)
    for name, text in (
        ("source", "Create, change and delete sources."),
        ("webhook", "Show, create and delete the webhook of a source."),
    )
}
for group, commands in groups.items():
    app.add_typer(commands, name=group)
for operation in OPERATIONS:
    first, _, second = operation.command.partition(" ")
    told = options_of(help_text=operation.description, examples=operation.examples)
    (groups[first] if second else app).command(second or first, **told)(command_of(operation))


def _print_version(asked: bool) -> None:  # noqa: FBT001  as the library calls it
    if asked:
        sys.stdout.write(f"dw-orchestration {__version__}\n")
        raise typer.Exit


@app.callback()
def connect(
    ctx: typer.Context,
    *,
    host: Annotated[
        str | None,
        typer.Option(
            envvar=connections.HOST_VARIABLE,
            metavar="URL",
            help=f"PostHog's server; {connections.US_CLOUD} if not given.",
        ),
    ] = None,
    project_id: Annotated[
        str | None,
        typer.Option(envvar=connections.PROJECT_VARIABLE, metavar="NUMBER", help="The number in PostHog's URLs."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=connections.KEY_VARIABLE,
            metavar="KEY",
            help="A personal API key (phx_...); better in the environment, where other users do not see it.",
            show_default=False,
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            envvar=connections.HOME_VARIABLE,
            metavar="FOLDER",
            help="The folder of an embedded warehouse; by default .dw_orchestration here or in a folder above.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001  its callback does it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tables that PostHog's data warehouse syncs: show them, sync them, change how they are synced."""
    connection = connections.Connection(
        host=host or connections.US_CLOUD,
        project_id=project_id or None,
        api_key=api_key or None,
        home=home or connections.nearest_home(),
        typed=_typed(ctx),
    )
    ctx.obj = Session(connection)


def _typed(ctx: typer.Context) -> frozenset[str]:
    """The options on the command line itself."""
    names = ("host", "project_id", "api_key", "home")
    sources = {name: cast("Any", ctx.get_parameter_source(name)) for name in names}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")
