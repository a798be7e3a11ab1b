"""`python -m dw_orchestration takeover`: what the default code location offers on the command line."""

import os
import sys

from dw_orchestration.definitions import component_for
from dw_orchestration.errors import SetupError
from dw_orchestration.schedules.takeover_command import takeover_command

USAGE = "usage: python -m dw_orchestration takeover [--apply | --give-back] [--tables PATTERN ...]"


def main(arguments: list[str]) -> int:
    """Carry out a command for the project that the environment names; the exit status."""
    if arguments[:1] != ["takeover"]:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        component = component_for(os.environ)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if component.takeover_file is None:
        raise AssertionError("The default component always has a takeover file.")
    return takeover_command(arguments[1:], warehouse=component.warehouse, takeover_path=component.takeover_file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
