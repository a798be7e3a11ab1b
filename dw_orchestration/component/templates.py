"""How a value of `defs.yaml` is read: templates are filled in strictly, and a problem is one sentence with its place.

Dagster leaves out a misspelt variable inside a text, reads digits of a text as a number, and prints what it refuses,
which may be a key.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from jinja2 import StrictUndefined, Template, TemplateError, Undefined, UndefinedError, pass_context
from jinja2.nativetypes import NativeEnvironment
from jinja2.runtime import Context
from pydantic import BaseModel, TypeAdapter, ValidationError

T = TypeVar("T")
_MISSING: Any = object()
# of pydantic's errors by their type, those whose texts are not for users
_PLAINLY = {"extra_forbidden": "there is no such setting", "sequence_str": "give a list"}


class Variable(str):  # noqa: SLOT000  it has a name
    """The value of an environment variable, with its name: where a template is nothing else, both can be used."""

    name: str

    @classmethod
    def of(cls, name: str, value: str) -> "Variable":
        """A value and its variable's name."""
        variable = cls(value)
        variable.name = name
        return variable


class _Misspelt(StrictUndefined):
    """What a template names and does not exist. A default in the template may replace it."""

    def __init__(self, hint: str | None = None, obj: Any = _MISSING, name: str | None = None, **more: Any) -> None:
        if hint is None and obj is _MISSING:
            hint = f"there is no template variable `{name}`"
        elif hint is None:
            known = ", ".join(each for each in dir(obj) if not each.startswith(("_", "model_")))
            kind = type(obj).__name__
            hint = f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind} has no `{name}`{f', but {known}' if known else ''}"
        super().__init__(hint, name=name, **more)


class Unset(Undefined):
    """A variable that the environment does not have: nothing by itself, and an error inside a text."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable `{name}` is not set", name=name)

    def __str__(self) -> str:
        return str(self._fail_with_undefined_error())

    @property
    def variable(self) -> str:
        """The variable's name."""
        return str(self._undefined_name)


class _Env:
    """`env` in templates, as Dagster has it: `env.NAME`, and `env('NAME', 'default')`."""

    def __getattr__(self, name: str) -> Variable | Unset:
        # jinja checks every value for attributes that only it uses
        if name.startswith(("jinja", "__")):
            raise AttributeError(name)
        value = os.environ.get(name)
        return Unset(name) if value is None else Variable.of(name, value)

    def __call__(self, name: str, default: Any = _MISSING) -> Any:
        found = getattr(self, name)
        return default if isinstance(found, Unset) and default is not _MISSING else found


@pass_context
def _as_it_is(_: Context, value: object) -> object:
    """Keeps jinja from making a text of a list or a number that is written in the template."""
    return value


class _Templates(NativeEnvironment):
    """Takes what an object does not have as missing: jinja would ask for an item, which Dagster's specs refuse."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) or hasattr(obj, attribute):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)


@cache
def _templates() -> NativeEnvironment:
    return _Templates(undefined=_Misspelt, finalize=_as_it_is, keep_trailing_newline=True)


@cache
def _template(text: str) -> Template:
    # a translation has the same few templates for thousands of tables
    return _templates().from_string(text)


def where(context: dg.ResolutionContext) -> str:
    """The place of a value: file and line, and the path to it."""
    path = ".".join(map(str, context.path))
    if context.source_position_tree is None:
        return path
    position, _ = context.source_position_tree.lookup_closest_and_path(context.path, None)
    return f"{position} - {path}"


def plain(given: Any) -> Any:
    """Models as mappings of what a user has given, at any depth."""
    if isinstance(given, BaseModel):
        return given.model_dump(exclude_unset=True)
    return [plain(each) for each in given] if isinstance(given, list | tuple) else given


def rendered(context: dg.ResolutionContext, text: str, **variables: Any) -> Any:
    """A text with its templates filled in; the value itself where a template is all of it.

    Raises:
        ResolutionException: A variable does not exist, or the template is invalid.
    """
    if "{" not in text:
        return text
    scope = {**context.scope, "env": _Env(), **variables}
    try:
        template = _template(text)
        pieces = list(template.root_render_func(template.new_context(scope)))
        value = pieces[0] if len(pieces) == 1 else "".join(map(str, pieces))
        if isinstance(value, _Misspelt):
            str(value)
    except UndefinedError as error:
        known = ", ".join(sorted(scope))
        raise ResolutionException(f"{where(context)}: {error.message}. Template variables are {known}.") from None
    except TemplateError as error:
        raise ResolutionException(f"{where(context)}: invalid template: {error.message}.") from None
    except Exception as error:
        raise ResolutionException(f"{where(context)}: the template failed: {error}") from error
    return value


def filled_in(context: dg.ResolutionContext, given: Any, **variables: Any) -> Any:
    """A value with the templates in it filled in, at any depth; None for a variable that is not set.

    Raises:
        ResolutionException: A variable does not exist, or a template is invalid.
    """
    given = plain(given)
    if isinstance(given, Mapping):
        return {name: filled_in(context.at_path(name), each, **variables) for name, each in given.items()}
    if isinstance(given, list):
        return [filled_in(context.at_path(at), each, **variables) for at, each in enumerate(given)]
    value = rendered(context, given, **variables) if isinstance(given, str) else given
    if isinstance(value, Unset):
        return None
    # Dagster stores texts, and no classes derived from them
    return str(value) if isinstance(value, Variable) else value


def checked(context: dg.ResolutionContext, adapter: TypeAdapter[T], value: Any, *, shows_values: bool = True) -> T:
    """A value in its own type.

    Raises:
        ResolutionException: It is none of that type. The text has one line for each problem.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = "\n".join(_problems(context, error, value, shows_values=shows_values))
    # outside of the handler: pydantic's own error prints what it was given
    raise ResolutionException(problems)


def _problems(
    context: dg.ResolutionContext, error: ValidationError, value: Any, *, shows_values: bool
) -> Iterator[str]:
    for each in error.errors(include_url=False):
        place, found = context, value
        for part in each["loc"]:
            # pydantic also names the members of unions, which are no part of the file
            if isinstance(found, Mapping) and (part in found or each["type"] == "missing"):
                place, found = place.at_path(part), found.get(part)
            elif isinstance(found, list) and isinstance(part, int):
                place, found = place.at_path(part), found[part]
        is_shown = shows_values and isinstance(found, str | int | float) and each["type"] != "extra_forbidden"
        text = _PLAINLY.get(each["type"]) or each["msg"].removeprefix("Value error, ")
        yield f"{where(place)}: {text}{f', and not {found!r}' if is_shown else ''}."
