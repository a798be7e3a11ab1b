"""How long to wait until the next look at a source."""

from collections.abc import Iterable
from dataclasses import dataclass

from dw_orchestration.sync.settings import MINUTE_S, SyncSettings

# With the age of the wait; a minute's sync is seen 3 s after its end at the latest, an hour's within 30 s.
GROWTH = 0.05
# Around its usual duration a table is looked at as often as at first, within this part of it, but at least so long.
WINDOW = 0.05
SHORTEST_WINDOW_S = 10.0


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


def pause_s(waits: Iterable[Wait], *, cost: int, total_cost: int, settings: SyncSettings) -> float:
    """The time to the next look at a source.

    As the most impatient of its tables wants it, but a look that takes three requests comes a third as often, and
    all sources together stay within their number of requests a minute.

    Args:
        waits: The waits of the source's tables.
        cost: The requests of its last look.
        total_cost: The same for all sources of the batch.
        settings: The batch's.
    """
    wanted = min((interval_s(wait, settings=settings) for wait in waits), default=settings.poll_max_s)
    return max(wanted, floor_s(cost=cost, total_cost=total_cost, settings=settings))


def floor_s(*, cost: int, total_cost: int, settings: SyncSettings) -> float:
    """The shortest time between two looks that cost so much."""
    share_s = max(settings.poll_min_s * cost, MINUTE_S / settings.polls_per_min * total_cost)
    return min(share_s, settings.poll_max_s)
