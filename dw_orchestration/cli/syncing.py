"""`dw sync`: sync tables and follow them to their end."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from dw_orchestration.cli.commands import DryRun, Yes, ask, plain
from dw_orchestration.cli.completion import COMPLETIONS
from dw_orchestration.cli.output import Exit, session_of
from dw_orchestration.cli.printing import Form, Jq, Json, Quiet, Wide
from dw_orchestration.cli.progress import Progress, progress_of
from dw_orchestration.operations.confirmation import confirmed_tables
from dw_orchestration.operations.operation import ConfirmedTablesParams
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.syncing import Outcomes, planned, sync_batch
from dw_orchestration.sync.engine import SyncEngine
from dw_orchestration.sync.settings import IfRunning, SyncMode, SyncSettings
from dw_orchestration.tables.errors import UsageError
from dw_orchestration.tables.table import Table

EXAMPLES = (
    "sync stripe.Charge",
    "sync 'stripe.*' --dry-run",
    "sync stripe.Charge --resync --confirm stripe.Charge",
)
_DEFAULTS = SyncSettings()
_FIELDS = ConfirmedTablesParams.model_fields
Tables = Annotated[
    list[str],
    typer.Argument(
        metavar="TABLE",
        help=plain(_FIELDS["tables"].description or ""),
        show_default=False,
        autocompletion=COMPLETIONS["TABLE"],
    ),
]
Confirm = Annotated[
    list[str] | None, typer.Option(metavar="TABLE", help=_FIELDS["confirm"].description, show_default=False)
]


def _option(name: str, **more: Any) -> Any:
    """An option with the engine's own description of a setting, without the marks of Markdown."""
    return typer.Option(help=plain(SyncSettings.model_fields[name].description or ""), **more)


def sync(
    ctx: typer.Context,
    wanted: Tables,
    *,
    resync: Annotated[
        bool, typer.Option("--resync", help="Delete what was synced and import it again, which is billed.")
    ] = False,
    confirm: Confirm = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    if_running: Annotated[IfRunning, _option("if_running")] = _DEFAULTS.if_running,
    wait: Annotated[bool, typer.Option(help="Wait until the syncs end, or only start them.")] = _DEFAULTS.wait,
    poll_min_s: Annotated[float, _option("poll_min_s", min=0.1, metavar="SECONDS")] = _DEFAULTS.poll_min_s,
    as_json: Json = False,
    jq: Jq = None,
    quiet: Quiet = False,
    wide: Wide = False,
) -> int:
    """Sync tables now and follow them to their end; Ctrl-C cancels what it has started."""
    session = session_of(ctx, Form(as_json=as_json, jq=jq, quiet=quiet, wide=wide))
    mode = SyncMode.RESYNC if resync else SyncMode.RELOAD
    slowest_s = max(_DEFAULTS.poll_max_s, poll_min_s)
    settings = SyncSettings(
        sync_mode=mode, if_running=if_running, wait=wait, poll_min_s=poll_min_s, poll_max_s=slowest_s
    )
    with session.connection.project() as project:
        if dry_run:
            return session.show(planned(project.tables().matching(wanted), mode=mode))
        tables = _chosen(project, wanted, confirm or (), mode=mode)
        if not yes and mode is SyncMode.RELOAD:
            ask(len(tables), does="sync")
        project.client.check_access(write=True)
        outcomes, began_s = Outcomes(tables), time.monotonic()
        with progress_of(tables, mode=mode) as progress:
            code = _follow(sync_batch(project, tables, settings=settings), outcomes, progress)
    return session.show(outcomes.report(took_s=time.monotonic() - began_s), code=code)


def _chosen(project: Project, wanted: Sequence[str], confirm: Sequence[str], *, mode: SyncMode) -> list[Table]:
    """The tables, if they may be synced so.

    Raises:
        UsageError: A name is unknown, or a resync is not confirmed.
    """
    if mode is SyncMode.RESYNC:
        return confirmed_tables(project, wanted, confirm=confirm)
    if confirm:
        raise UsageError("--confirm is only for --resync: give both, or neither.")
    return project.tables().matching(wanted)


def _follow(batch: SyncEngine, outcomes: Outcomes, progress: Progress) -> Exit | None:
    """Sync, and show the progress. Return an exit status if it differs from that of the result."""
    try:
        with _interrupted_by_termination():
            for event in batch.events():
                outcomes.note(event)
                progress.tell(event)
    except KeyboardInterrupt:
        progress.say("Interrupted: cancelling what was started. Press again to leave it to PostHog.")
        for report in batch.cancel_started():
            outcomes.note_cancelled(report)
            progress.say(report.text)
        return Exit.INTERRUPTED
    return None


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Treat SIGTERM, which ends jobs of CI and containers, as Ctrl-C."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
