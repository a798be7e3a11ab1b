"""Failures that Dagster shows as their sentence alone, without frames."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo


class PlainError(DagsterUserCodeProcessError):
    """An error that Dagster shows as it is: it takes this kind for one that another process has written down."""

    def __init__(self, sentence: str) -> None:
        shown = SerializableErrorInfo(message=sentence, stack=[], cls_name="Failure")
        super().__init__(sentence, user_code_process_error_infos=[shown])  # type: ignore[no-untyped-call]  # it has none


class _PlainFailureError(dg.Failure, PlainError):
    """Dagster lets no retry policy see it, because it is also an error of Dagster's."""


def plain_failure(
    description: str, *, metadata: Mapping[str, Any] | None = None, allow_retries: bool = False
) -> dg.Failure:
    """The failure of a step, without frames unless a retry policy may have to see it."""
    kind = dg.Failure if allow_retries else _PlainFailureError
    return kind(description=description, metadata=metadata, allow_retries=allow_retries)
