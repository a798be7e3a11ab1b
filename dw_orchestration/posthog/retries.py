"""Which requests are retried, and after how long. No other module retries a request."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from dw_orchestration.posthog.errors import (
    AnswerTimeoutError,
    ApiError,
    BudgetSpentError,
    PostHogError,
    UnreachableError,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

TOO_MANY_REQUESTS = 429
SERVER_ERRORS = 500
# A longer pause is reported to people.
LONG_PAUSE_S = 10.0
GATEWAY_ERRORS = frozenset({502, 503})

CALCULATES = "CALCULATE"
"""In place of the method of a POST that changes nothing, but for which PostHog works again each time."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Retries requests that had no effect yet, and requests that are safe to repeat.

    Args:
        attempts: Number of attempts, including the first one.
        first_delay_s: Pause after the first attempt. It doubles with each attempt, and up to `jitter_s` is added.
        longest_delay_s: Upper limit of the doubling.
        jitter_s: Upper limit of a random addition, so that many processes do not retry at the same moment.
        longest_retry_after_s: If the server asks for a longer pause, the error is raised at once. The caller can then
            release its worker instead of sleeping.
    """

    attempts: int = 4
    first_delay_s: float = 0.5
    longest_delay_s: float = 20.0
    jitter_s: float = 1.0
    longest_retry_after_s: float = 60.0

    def should_retry(
        self,
        *,
        method: str,
        status: int | None,
        attempt: int,
        sent: bool = True,
        retry_after_s: float | None = None,
    ) -> bool:
        """Whether to retry a request that failed.

        Args:
            method: GET, PATCH and DELETE are safe to repeat. A POST that was sent may have started a sync. What
                `CALCULATES` is repeated if the connection or a gateway failed, and not if it took too long.
            status: The HTTP status; None if there was no answer.
            attempt: The number of attempts so far.
            sent: Whether the request may have reached the server.
            retry_after_s: The pause that the server asked for, in seconds.
        """
        if attempt >= self.attempts or (retry_after_s or 0.0) > self.longest_retry_after_s:
            return False
        if not sent or status == TOO_MANY_REQUESTS:
            return True
        if method == CALCULATES:
            return status is None or status in GATEWAY_ERRORS
        return method != "POST" and (status is None or status >= SERVER_ERRORS)

    def call(
        self,
        attempt: Callable[[], T],
        *,
        method: str,
        sleep: Callable[[float], None],
        left_s: Callable[[], float] = lambda: math.inf,
        notify: Callable[[str], None] = _log.warning,
    ) -> T:
        """Call `attempt` until it succeeds or fails with an error that is not retried.

        Args:
            attempt: Sends the request.
            method: Its HTTP method.
            sleep: Waits.
            left_s: How long a pause may be now.
            notify: Called with a sentence for people about a long pause.

        Raises:
            PostHogError: The error of the last attempt.
        """
        doubling = tenacity.wait_exponential(multiplier=self.first_delay_s, max=self.longest_delay_s)
        backoff = doubling + tenacity.wait_random(0, self.jitter_s)

        def should_retry(state: tenacity.RetryCallState) -> bool:
            exc = _error_of(state)
            # tenacity calls this for every exception, including KeyboardInterrupt.
            if not isinstance(exc, PostHogError) or isinstance(exc, BudgetSpentError):
                return False
            return self._allows(exc, method=method, attempt=state.attempt_number)

        def pause_s(state: tenacity.RetryCallState) -> float:
            requested = _retry_after_s(_error_of(state))
            return backoff(state) if requested is None else requested

        def is_too_late(state: tenacity.RetryCallState) -> bool:
            return state.upcoming_sleep > left_s()

        def report(state: tenacity.RetryCallState) -> None:
            if state.upcoming_sleep >= LONG_PAUSE_S:
                notify(f"Waiting {state.upcoming_sleep:.0f} s before the request is repeated: {_error_of(state)}")

        retrying = tenacity.Retrying(
            retry=should_retry, wait=pause_s, stop=is_too_late, before_sleep=report, sleep=sleep, reraise=True
        )
        return retrying(attempt)

    def _allows(self, exc: PostHogError, *, method: str, attempt: int) -> bool:
        if method == CALCULATES and isinstance(exc, AnswerTimeoutError):
            return False
        return self.should_retry(
            method=method,
            status=exc.status if isinstance(exc, ApiError) else None,
            attempt=attempt,
            sent=not isinstance(exc, UnreachableError),
            retry_after_s=_retry_after_s(exc),
        )


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after_s(exc: BaseException | None) -> float | None:
    return exc.problem.retry_after_s if isinstance(exc, ApiError) else None
