"""What the shell offers when a user presses Tab after `dw <command>`: the names of tables and sources.

Only bash, zsh, fish and PowerShell call this: `dw --install-completion` sets them up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.cli.connection import from_environment
from dw_orchestration.posthog.errors import PostHogError, SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dw_orchestration.tables.tables import Tables


def _names(of: Callable[[Tables], list[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        try:
            with from_environment().project() as project:
                return [name for name in of(project.tables()) if name.startswith(incomplete)]
        except (PostHogError, SetupError):
            # an error would appear in the midst of what the user types
            return []

    return complete


COMPLETIONS = {
    "TABLE": _names(lambda tables: [table.name for table in tables]),
    "SOURCE": _names(lambda tables: [source.name for source in tables.sources]),
}
