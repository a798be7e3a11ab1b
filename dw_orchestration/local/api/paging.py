"""Lists in pages: `limit` and `offset`, as Django REST Framework has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_LIMIT = 100

S = TypeVar("S")
T = TypeVar("T")

# Documented as numbers, read as text: PostHog ignores values that are not numbers.
_NumberText = Annotated[str | None, WithJsonSchema({"type": "integer", "minimum": 0}), Query()]


class PageOut(BaseModel, Generic[T]):
    """A page of a list, and where its neighbours are."""

    count: int
    next: str | None
    previous: str | None
    results: list[T]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page was asked for."""

    limit: int
    offset: int
    request: Request

    def page(self, items: Sequence[S], build: Callable[[S], T]) -> PageOut[T]:
        """The page of `items` that was asked for; only its own items are built."""
        end = self.offset + self.limit
        return PageOut(
            count=len(items),
            next=self._url(end) if end < len(items) else None,
            previous=self._url(max(self.offset - self.limit, 0)) if self.offset > 0 else None,
            results=[build(item) for item in items[self.offset : end]],
        )

    def _url(self, offset: int) -> str:
        url = self.request.url.include_query_params(limit=self.limit, offset=offset)
        return str(url if offset else url.remove_query_params("offset"))


def _paging(request: Request, limit: _NumberText = None, offset: _NumberText = None) -> Paging:
    return Paging(limit=_number(limit) or DEFAULT_LIMIT, offset=_number(offset), request=request)


def _number(text: str | None) -> int:
    try:
        return max(int(text), 0) if text else 0
    except ValueError:
        return 0


Paged = Annotated[Paging, Depends(_paging)]
