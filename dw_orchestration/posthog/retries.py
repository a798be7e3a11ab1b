"""When a request is repeated, and after how long: the one place that decides it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from dw_orchestration.posthog.errors import ApiError, PostHogError, UnreachableError

T = TypeVar("T")

TOO_MANY_REQUESTS = 429
SERVER_ERRORS = 500


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Repeats what cannot do harm: what had no effect yet, and what may be done twice.

    Args:
        attempts: Tries in all, the first one included.
        first_delay_s: Pause after the first try; it doubles from try to try, and up to `jitter_s` is added.
        longest_delay_s: Where the doubling ends.
        jitter_s: Keeps many processes from coming back in step.
        longest_retry_after_s: A server that asks for a longer pause gets no other try: the error is raised
            at once, so that the caller can do something better than sleep.
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
        """Whether to repeat a request that failed.

        Args:
            method: GET, PATCH and DELETE may be done twice. A POST that was sent may have started a sync.
            status: The answer's; None if no answer came.
            attempt: How many tries there were, this one included.
            sent: Whether the request may have reached the server.
            retry_after_s: The pause that the server asked for.
        """
        if attempt >= self.attempts or (retry_after_s or 0.0) > self.longest_retry_after_s:
            return False
        if not sent or status == TOO_MANY_REQUESTS:
            return True
        return method != "POST" and (status is None or status >= SERVER_ERRORS)

    def call(self, attempt: Callable[[], T], *, method: str, sleep: Callable[[float], None]) -> T:
        """Call `attempt` until it succeeds, or until its error is not worth another try.

        Raises:
            PostHogError: The last try's error.
        """
        doubling = tenacity.wait_exponential(multiplier=self.first_delay_s, max=self.longest_delay_s)
        backoff = doubling + tenacity.wait_random(0, self.jitter_s)

        def wants_another(state: tenacity.RetryCallState) -> bool:
            exc = _error_of(state)
            # The library asks about everything that is raised, an interrupt by the user among it.
            return isinstance(exc, PostHogError) and self._allows(exc, method=method, attempt=state.attempt_number)

        def pause_s(state: tenacity.RetryCallState) -> float:
            asked_for = _retry_after_s(_error_of(state))
            return backoff(state) if asked_for is None else asked_for

        retrying = tenacity.Retrying(retry=wants_another, wait=pause_s, sleep=sleep, reraise=True)
        return retrying(attempt)

    def _allows(self, exc: PostHogError, *, method: str, attempt: int) -> bool:
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
