"""Lists that keep the rows that can be read if there is one that cannot."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, LiteralString, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dw_orchestration.text import visible

Row = TypeVar("Row")

#: The fault of a job that belongs to no table. PostHog itself lists such jobs.
NO_TABLE = "no_table"
# A list with more is not PostHog's. Without a bound, a list of garbage would take the memory of all of its faults.
MOST_UNREADABLE = 1000


@dataclass(frozen=True, kw_only=True)
class UnreadableRow:
    """A row that could not be read. Contains none of its values except its id.

    Attributes:
        kind: What it is, such as `schema` or `job`.
        id: Its id; None if that cannot be read either.
        fault: The field, and what is wrong with it.
        fault_type: The kind of fault, as pydantic names it.
    """

    kind: str
    id: str | None
    fault: str
    fault_type: str

    def __str__(self) -> str:
        return visible(f"{self.kind} {self.id or 'without a readable id'} ({self.fault})")


class Rows(tuple[Row, ...], Generic[Row]):  # noqa: SLOT001  # the attribute needs a `__dict__`
    """The rows of a list that could be read, in their order.

    If none of several can be read, or a thousand cannot, the list is refused, because it is not the expected one.

    Attributes:
        unreadable: The rows that could not be read. Check them before you take a missing row for a deleted one.
    """

    unreadable: tuple[UnreadableRow, ...] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (row,) = get_args(source)
        kind = row.__name__.lower()

        def read(value: Any, parse: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Rows[Row]:
            try:
                return cls(parse(value))
            except ValidationError:
                if not isinstance(value, list | tuple):
                    raise
            rows = cls._one_by_one(value, parse, kind=kind)
            if isinstance(info.context, list):
                info.context.extend(rows.unreadable)
            return rows

        return core_schema.with_info_wrap_validator_function(
            # Ends at the first fault: a list of millions of numbers would have millions.
            read,
            core_schema.tuple_schema([handler.generate_schema(row)], variadic_item_index=0, fail_fast=True),
        )

    @classmethod
    def _one_by_one(cls, values: Any, parse: ValidatorFunctionWrapHandler, *, kind: str) -> "Rows[Row]":
        found: list[Row] = []
        unreadable: list[UnreadableRow] = []
        for value in values:
            try:
                found += parse([value])
            except ValidationError as error:
                unreadable.append(_unreadable_row(kind, value, error))
            if len(unreadable) > MOST_UNREADABLE:
                raise _refusal("more than {count} rows cannot be read", MOST_UNREADABLE, unreadable[0])
        unexpected = [row for row in unreadable if row.fault_type != NO_TABLE]
        if not found and len(unexpected) > 1:
            raise _refusal("none of {count} rows can be read", len(unexpected), unexpected[0])
        rows = cls(found)
        rows.unreadable = tuple(unreadable)
        return rows


def includes(rows: Iterable[UnreadableRow], kind: str) -> bool:
    """Whether one of these rows is of this kind, so that one that no list shows may exist anyway."""
    return any(row.kind == kind for row in rows)


def _refusal(text: LiteralString, count: int, first: UnreadableRow) -> PydanticCustomError:
    """The fault of a list that is not the expected one."""
    return PydanticCustomError(
        "no_row", text + ", the first because of {fault}", {"count": count, "fault": first.fault}
    )


def _unreadable_row(kind: str, value: object, error: ValidationError) -> UnreadableRow:
    # Without the input: a row may contain connection details.
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    own_id = value.get("id") if isinstance(value, Mapping) else None
    where = ".".join(map(str, fault["loc"][1:])) or "the row"
    return UnreadableRow(
        kind=kind,
        id=own_id if isinstance(own_id, str) and re.fullmatch(r"[\w-]{1,64}", own_id) else None,
        fault=f"{where}: {fault['msg']}",
        fault_type=fault["type"],
    )
