"""Failures that Dagster shows as their sentence alone, without frames."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from dw_orchestration.posthog.errors import TransportError
from dw_orchestration.text import VisibleError


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


def retry_policy_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> dg.RetryPolicy | None:
    """The retry policy of the step or of its job, which has to see the failures that it may retry."""
    op = context.op_execution_context
    return op.job_def.get_retry_policy_for_handle(op.op_handle)


@contextmanager
def errors_as_failure(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Iterator[None]:
    """Turn errors of this package into a failure of the step: its reader needs the sentence, not the traceback.

    Raises:
        dagster.Failure: The block raised an error of this package.
    """
    try:
        yield
    except VisibleError as error:
        is_retried = isinstance(error, TransportError) and retry_policy_of(context) is not None
        raise plain_failure(str(error), allow_retries=is_retried) from None


@contextmanager
def errors_of_tick() -> Iterator[None]:
    """Turn errors of this package into the sentence that the page of a sensor shows for a failed tick.

    Raises:
        PlainError: The block raised an error of this package.
    """
    try:
        yield
    except VisibleError as error:
        raise PlainError(str(error)) from None
