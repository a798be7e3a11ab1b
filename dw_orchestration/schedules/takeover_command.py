"""The takeover on the command line: the same as the job, with the same file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dw_orchestration.errors import PostHogError, SetupError, SnapshotError
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.schedules.takeover_file import TakeoverStore
from dw_orchestration.schedules.takeover_job import TakeoverAction, carry_out

PROGRAM = "python -m dw_orchestration takeover"


def takeover_command(arguments: Sequence[str], *, warehouse: WarehouseResource, takeover_path: Path) -> int:
    """Do what the command line asks for, and print what would change or has; the exit status.

    Args:
        arguments: What comes after `takeover`: `[--apply | --give-back] [--tables PATTERN ...]`.
        warehouse: The project.
        takeover_path: As for `build_takeover_job`.
    """
    given = _parser().parse_args(arguments)
    try:
        with warehouse.client() as client:
            store = TakeoverStore(path=takeover_path, host=warehouse.name, project_id=client.project_id)
            report = carry_out(client, store, action=given.action, tables=given.tables)
    except (PostHogError, SetupError, SnapshotError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{report}\n")
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Move PostHog's own schedules out of the way (to every 30 days), so that Dagster alone drives."
        " Without an option, nothing is changed and the plan is shown.",
    )
    action = parser.add_mutually_exclusive_group()
    for option, value, text in (
        ("--apply", TakeoverAction.APPLY, "do it, and remember the frequencies from before"),
        ("--give-back", TakeoverAction.GIVE_BACK, "set the frequencies from before again"),
    ):
        action.add_argument(option, dest="action", action="store_const", const=value, help=text)
    parser.add_argument(
        "--tables",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="only these tables: `stripe.*`, `postgres_shop.orders`, or, with a slash, asset keys",
    )
    parser.set_defaults(action=TakeoverAction.PLAN)
    return parser
