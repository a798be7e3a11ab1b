"""The arguments and options that several commands have."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else: summary, failed, rows.")]
Tables = Annotated[
    list[str],
    typer.Argument(
        metavar="TABLE...",
        help="Tables: prefix.table, source/table, an id, or a pattern such as 'stripe.*'.",
        show_default=False,
    ),
]
SomeTables = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TABLE...]", help="Tables or patterns; all if none is given.", show_default=False),
]
Table = Annotated[str, typer.Argument(metavar="TABLE", help="A table: prefix.table, source/table or an id.")]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A source: its name, its prefix or its id.")]
Confirm = Annotated[
    list[str] | None,
    typer.Option("--confirm", metavar="TABLE", help="The name of each of the tables once more.", show_default=False),
]
