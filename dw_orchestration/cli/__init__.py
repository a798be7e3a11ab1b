"""The `dw` command: the operations and syncs from a shell. Imports no Dagster unless it is needed, to start fast."""

import sys


def main() -> None:
    """Run the command, or say how to install what it needs."""
    try:
        from dw_orchestration.cli.app import app
        from dw_orchestration.cli.streams import accept_any_output
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.stderr.write("The dw command needs the extra `cli`: pip install 'dw-orchestration[cli]'\n")
        raise SystemExit(3) from None
    accept_any_output()
    app(prog_name="dw")
