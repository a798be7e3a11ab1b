"""The commands that are made from the operations. `Params` are the arguments and options of a command."""

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand

from dw_orchestration.cli.completion import COMPLETIONS
from dw_orchestration.cli.output import Session, session_of
from dw_orchestration.cli.printing import Fields, Form, Jq, Json, Quiet, Wide
from dw_orchestration.operations.operation import Operation
from dw_orchestration.tables.errors import UsageError

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many tables it is.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done. Nothing is changed.")]
# what a help text calls a value
METAVARS = {str: "TEXT", int: "NUMBER", float: "NUMBER", list: "TEXT"}
# more tables are asked for
MOST_UNASKED = 10
# a wrong field is known once the work is done: only lists, which have no job, have the option
FORMS: dict[str, tuple[Any, Any]] = {
    "as_json": (Json, False),
    "jq": (Jq, None),
    "quiet": (Quiet, False),
    "wide": (Wide, False),
}


class Command(TyperCommand):
    """A command whose help has no names of Python's types."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for argument in self.params:
            if isinstance(argument, TyperArgument):
                # typer adds a type, such as `<list[str]>`, to the name that we give it
                argument.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005


def command_of(operation: Operation) -> Callable[..., int]:
    """The function of which typer makes the operation's command."""
    payloads = set(operation.payloads())

    asks = "dry_run" in operation.params.model_fields and not operation.confirms_by_name
    forms = FORMS if operation.has_job else FORMS | {"fields": (Fields, None)}

    def command(ctx: typer.Context, **given: Any) -> int:
        session = session_of(ctx, Form(**{name: given.pop(name) for name in forms}))
        is_sure = given.pop("yes", False)
        values = {
            name: _payload(session, value) if name in payloads else value
            for name, value in given.items()
            # what was not given stays the operation's default
            if value is not None
        }
        try:
            params = operation.params.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            raise UsageError(f"Invalid {'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from None
        with session.connection.project() as project:
            if asks and not (is_sure or given["dry_run"]):
                ask(len(project.tables().matching(given["tables"])), does=operation.command)
            report = operation.carry_out(project, params)
        return session.show(report)

    fields = operation.params.model_fields.items()
    parameters = {name: _parameter(name, field, is_payload=name in payloads) for name, field in fields}
    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(
            inspect.Parameter(name, keyword, default=default, annotation=annotation)
            for name, (annotation, default) in parameters.items()
        ),
        *([inspect.Parameter("yes", keyword, default=False, annotation=Yes)] if asks else []),
        *(
            inspect.Parameter(name, keyword, default=default, annotation=annotation)
            for name, (annotation, default) in forms.items()
        ),
    ]
    # typer reads the signature and the annotations of the function
    command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]  # functions have one if it is set
    command.__annotations__ = {each.name: each.annotation for each in signature}
    command.__doc__ = plain(operation.description)
    return command


def options_of(*, help_text: str, examples: Sequence[str]) -> dict[str, Any]:
    """What typer knows of a command: its line in the list of commands, its help, and examples below that."""
    first_sentence = plain(help_text).split("\n\n")[0].split(". ")[0].rstrip(".") + "."
    # the mark at the start keeps the lines apart
    lines = "".join(f"  dw {example}\n" for example in examples)
    return {"cls": Command, "short_help": first_sentence, "epilog": f"\b\nExamples:\n{lines}" if lines else ""}


def ask(count: int, *, does: str) -> None:
    """Let a user confirm what concerns many tables; on a terminal by a key, elsewhere by `--yes`.

    Raises:
        UsageError: Nobody said yes; nothing was changed.
    """
    if count <= MOST_UNASKED:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"dw {does} would go to {count} tables. Add --yes if that is what you want, or --dry-run to look first."
        )
    sys.stderr.write(f"dw {does} goes to {count} tables. Continue? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("Nothing was changed.")


def _parameter(name: str, field: FieldInfo, *, is_payload: bool) -> tuple[Any, Any]:
    """The annotation and the default of one argument or option."""
    help_text = plain(field.description or "")
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    metavar = str(extra["metavar"]) if "metavar" in extra else None
    default = ... if field.is_required() else field.default
    if is_payload:
        option = typer.Option(
            f"--{name.replace('_', '-')}", metavar="FILE", help=f"A JSON file, or - to read it: {help_text}"
        )
        return Annotated[
            Path if default is ... else Path | None, option
        ], inspect.Parameter.empty if default is ... else None
    kind = _without_none(field.annotation)
    if metavar:
        metavar = metavar.strip("[].")
        shown = typer.Argument(
            metavar=metavar, help=help_text, show_default=False, autocompletion=COMPLETIONS.get(metavar)
        )
        return Annotated[
            kind if default is ... else kind | None, shown
        ], inspect.Parameter.empty if default is ... else None
    names = [f"--{name.replace('_', '-')}"]
    of_value = METAVARS.get(get_origin(kind) or kind)
    if kind is bool and default is None:
        switch = f"{names[0]}/--no-{name.replace('_', '-')}"
        return Annotated[bool | None, typer.Option(switch, help=help_text, show_default=False)], None
    if kind is bool:
        return Annotated[bool, typer.Option(*names, help=help_text)], default
    if default is ...:
        return Annotated[kind, typer.Option(*names, metavar=of_value, help=help_text)], inspect.Parameter.empty
    option = typer.Option(*names, metavar=of_value, help=help_text, show_default=False)
    return Annotated[kind | None, option], None


def _without_none(annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) else annotation


def plain(text: str) -> str:
    """A description without the marks of Markdown, for a terminal."""
    return text.replace("`", "")


def _payload(session: Session, path: Path) -> dict[str, object]:
    """The fields in a JSON file, with the values of the environment variables that it names.

    Raises:
        UsageError: The file does not exist or is not a JSON object, or a variable is not set.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise UsageError(f"Cannot read {name}: {error.strerror}.") from None
    except ValueError as error:
        # where it is wrong, but not the text there: it may be a secret
        position = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        problem = f"{name} is not JSON{position}."
    else:
        problem = f"{name} is not a JSON object."
        if isinstance(found, dict):
            return session.values(found)
    raise UsageError(problem)
