"""How long to wait until the next look."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from dw_orchestration.sync.settings import MINUTE_S, SyncSettings

# With the age of the wait; a minute's sync is seen 3 s after its end at the latest, an hour's within 30 s.
GROWTH = 0.05
# Around its usual duration a table is looked at as often as at first, within this part of it, but at least so long.
WINDOW = 0.05
SHORTEST_WINDOW_S = 10.0
# The record shows no row of a new job, so each look for one costs a request; the end shows without it.
SEARCH_GROWTH = 1.0
SHORTEST_SEARCHES = 3
# A record can go on saying Running after the end.
SWEEP_GROWTH = 0.1
SHORTEST_SWEEP_S = MINUTE_S
LONGEST_SWEEP_S = 5 * MINUTE_S
# Batches that one schedule's tick began together drift apart by up to this part of each pause.
JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class Wait:
    """One table's wait: how long it has been going on, how old its job is, and what it usually takes."""

    waited_s: float
    job_age_s: float = 0.0
    usual_s: float | None = None


def interval_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time to the next look that suits one table."""
    by_age = min(max(GROWTH * wait.waited_s, settings.poll_min_s), settings.poll_max_s)
    if wait.usual_s is None:
        return by_age
    margin = max(WINDOW * wait.usual_s, SHORTEST_WINDOW_S)
    to_window = wait.usual_s - margin - wait.job_age_s
    if to_window > 0:
        return min(by_age, max(to_window, settings.poll_min_s))
    return settings.poll_min_s if wait.job_age_s < wait.usual_s + margin else by_age


def search_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time to the next search for the new job of a table whose record is seen anyway."""
    return max(min(SEARCH_GROWTH * wait.waited_s, settings.poll_max_s), SHORTEST_SEARCHES * settings.poll_min_s)


def sweep_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time until the job of a table whose record says Running is read all the same.

    Hardly before its usual end, at least once a minute at first after that, and often enough for the deadlines.
    """
    to_end = wait.usual_s - wait.job_age_s if wait.usual_s is not None else 0.0
    wanted = max(SWEEP_GROWTH * wait.waited_s, SHORTEST_SWEEP_S, to_end)
    slack_s = SWEEP_GROWTH * min(settings.stall_timeout_s, settings.total_timeout_s)
    return min(wanted, LONGEST_SWEEP_S, max(slack_s, settings.poll_min_s))


def pause_s(waits: Iterable[Wait], *, cost: int, settings: SyncSettings) -> float:
    """The time to the next look: as the most impatient table wants it, but a costly look comes less often.

    Args:
        waits: The waits of the tables.
        cost: The requests of the last look.
        settings: The batch's.
    """
    wanted = min((interval_s(wait, settings=settings) for wait in waits), default=settings.poll_max_s)
    return max(wanted, floor_s(cost=cost, settings=settings))


def floor_s(*, cost: int, settings: SyncSettings) -> float:
    """The shortest time between two looks that cost so much."""
    return min(settings.poll_min_s * (1 + cost) / 2, settings.poll_max_s)


def put_off(at: float, *, now: float, chance: float) -> float:
    """A planned time, made later by a part of the pause; `chance` (0 to 1) says by how much of that part."""
    return at + JITTER * chance * (at - now) if isfinite(at) else at
