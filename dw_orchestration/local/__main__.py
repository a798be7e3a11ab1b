"""`python -m dw_orchestration.local`: run the embedded warehouse, or make a key for it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dw_orchestration.files import PRIVATE_UMASK, make_private_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dw_orchestration.local.process import Options


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for; the exit status."""
    # this process and those that it starts write rows, keys and logs, all of them for this user alone
    os.umask(PRIVATE_UMASK)
    if arguments[:1] == ["key"]:
        return _print_key(arguments[1:])
    from dw_orchestration.local.process import serve

    return serve(_options(arguments))


def _options(arguments: Sequence[str]) -> Options:
    from dw_orchestration.local.process import Options

    parser = argparse.ArgumentParser(prog="python -m dw_orchestration.local", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of all that is kept")
    parser.add_argument("--shop", action="store_true", help="start the shop and sync it")
    parser.add_argument("--fixtures", type=Path, help="folder of files for other sources (HOME/fixtures)")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (a free one)")
    parser.add_argument(
        "--leave-after",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="end when unused for so long; 0: never",
    )
    parser.add_argument("--rate-limit-per-minute", type=int, metavar="N", help="calls of a key before 429")
    given = parser.parse_args(arguments)
    return Options(
        home=given.home,
        shop=given.shop,
        fixtures=given.fixtures,
        port=given.port,
        leave_after_s=given.leave_after,
        rate_limit_per_minute=given.rate_limit_per_minute,
    )


def _print_key(arguments: Sequence[str]) -> int:
    from dw_orchestration.local.scheduler import utc_now
    from dw_orchestration.local.store import Store

    parser = argparse.ArgumentParser(prog="python -m dw_orchestration.local key", description="Make an API key.")
    parser.add_argument("--home", type=Path, required=True, help="home folder of the embedded warehouse")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        help="external_data_source:read, external_data_source:write or *",
    )
    given = parser.parse_args(arguments)
    make_private_folder(given.home)
    store = Store(given.home / "state.sqlite")
    sys.stdout.write(store.add_key(scopes=given.scope, at=utc_now()) + "\n")
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
