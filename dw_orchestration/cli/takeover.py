"""`dw takeover`: the same as the job `<resource>_takeover`, with the same file."""

from pathlib import Path
from typing import Annotated

import typer

from dw_orchestration.cli.options import Json, SomeTables
from dw_orchestration.cli.output import session_of
from dw_orchestration.tables.errors import SetupError, UsageError


def takeover(
    ctx: typer.Context,
    wanted: SomeTables = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Do it, and remember the frequencies from before.")] = False,
    give_back: Annotated[bool, typer.Option("--give-back", help="Set the frequencies from before again.")] = False,
    patterns: Annotated[
        list[str] | None, typer.Option("--tables", metavar="PATTERN", help="The same as to name them without it.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="The code location's takeover file; by default the default one's.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Move PostHog's own schedules out of the way, so that Dagster alone drives; without an option, show the plan."""
    session = session_of(ctx, as_json=as_json)
    if apply and give_back:
        raise UsageError("--apply and --give-back contradict each other: give one of the two.")
    # these bring Dagster along, which takes a second: only this command pays for it
    from dw_orchestration.operations.takeover_file import TakeoverStore
    from dw_orchestration.operations.takeover_job import TakeoverAction, carry_out

    action = TakeoverAction.APPLY if apply else TakeoverAction.GIVE_BACK if give_back else TakeoverAction.PLAN
    path = file.absolute() if file else session.connection.takeover_file
    with session.connection.project() as project:
        store = TakeoverStore(path=path, host=session.connection.name, project_id=project.client.project_id)
        try:
            report = carry_out(project.client, store, action=action, tables=[*(wanted or ()), *(patterns or ())])
        except SetupError as error:
            # the connection stands: what is wrong now is a pattern or the file
            raise UsageError(str(error)) from None
    return session.show(report)
