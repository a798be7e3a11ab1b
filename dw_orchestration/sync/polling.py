"""When the next request is sent. No other module delays a request.

The engine has one thread and two kinds of requests: polls, which read what happened, and triggers, which start syncs.
Each poller has a `PollSchedule` with the time of its next poll, and all triggers together have a `TriggerGate` with the
time of the next trigger. The engine sends the request that is due first. After each request that time moves:

1. Each table needs a poll after some interval (`interval_s`). A poll of a source serves all of its tables, so the most
   impatient table decides. The interval grows with the time waited (5 %), between `poll_min_s` and `poll_max_s`: the
   end of a sync of a minute is seen within 3 s, that of an hour within a minute. If completed jobs of the table are
   known, their median predicts the end. Then the polls before it are fewer (20 %), and those around it more.
2. With more than a few sources, one list of all sources is polled instead of each source. It has the record of every
   table, and a changed record makes the source's jobs be read at once. Between such changes the jobs are read at longer
   intervals only (`listed_interval_s`): for what no record shows, and because a record can be wrong.
3. A poll of many requests comes less often (`floor_s`), and a long wait has a pace (`Pace`), so that neither a large
   source nor many tables with different ends use up the API key's budget.
4. The list can take PostHog's server seconds. It then rests for a multiple of the time it took.
5. A trigger makes the next poll come soon (`PollSchedule.poll_soon`), but not sooner than 3 and 4 allow.
6. If a poll fails, the outage decides instead of all of the above (`Outage`): as long as PostHog asked for (429), or
   twice as long each time. In an outage nothing is triggered at that source, because a job that it has already would
   not be seen; and the deadlines of its tables stand still. After `unreachable_timeout_s` its tables are given up.
7. Each pause is made longer by a random part of a tenth, because many runs start at the same tick of a schedule. It is
   never made shorter: then the times that PostHog asked for would not be kept.
8. Of triggers, one per source may go at once, and the others keep a pace (`TriggerGate`): when the billing limit of a
   project is reached, few tables have met it before the first one shows it. If PostHog does not accept a trigger (429,
   unreachable), the gate closes for a while. The trigger had no effect, so that table is triggered again.
9. Polls and triggers alternate when both are due: neither time is ever before the last request of its kind. So the
   ends of running syncs are seen while hundreds of tables still wait for their trigger.

Below all this, the client has its own rate budget and retries, which take effect within a request. The engine does
not know how long that will take; it only excludes it from the time that deadlines count (`Now.watched_s`).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite

from dw_orchestration.posthog.errors import PostHogError, RateLimitedError
from dw_orchestration.posthog.limits import DEFAULT_REQUESTS_PER_MINUTE
from dw_orchestration.sync.settings import MINUTE_S, SyncSettings

AT_ONCE = float("-inf")
"""As the time of a poll: before everything else that is due."""
NEVER = float("inf")

# A poll is late by at most this part of the time waited. A smaller part costs more requests: about 1/GROWTH for each
# time that the wait becomes e times as long.
GROWTH = 0.05
# The same if the usual duration is known: then the requests are spent around the usual end.
GROWTH_IF_KNOWN = 0.2
# How far around its usual end a table is polled often: syncs of one table vary by some percent, and short ones by
# seconds of queueing. A longer window has no more polls.
WINDOW = 0.05
SHORTEST_WINDOW_S = 10.0
POLLS_IN_WINDOW = 40

# The next three matter only if the list of sources is polled. A record does not show that a new job has appeared, so
# the search for one costs a request per source. It can be slow, since the record shows the job's end in any case.
SEARCH_GROWTH = 1.0
SHORTEST_SEARCH_POLLS = 3
# A record can still say Running after the job's end. So the job itself is read from time to time: once a minute at
# first, every quarter of an hour later, and ten times before its shortest deadline.
SWEEP_GROWTH = 0.2
DEADLINE_PART = 0.1
SHORTEST_SWEEP_S = MINUTE_S
LONGEST_SWEEP_S = 15 * MINUTE_S
# As often is a source read of which no table waits for anything.
IDLE_S = 2 * MINUTE_S

# How many requests a poller may send before its pace holds: those of the first eight minutes of a wait whose end cannot
# be predicted, and of hours of one whose end can.
REQUESTS_AT_ONCE = 70

# The longest random part of a pause.
JITTER = 0.1

# The rest of the client's rate budget is for polls, which would wait with the triggers whenever it is used up.
TRIGGERS_PER_MIN = DEFAULT_REQUESTS_PER_MINUTE * 5 / 6
# So many seconds' worth of triggers may go at once at most. More would only wait within the client for its rate budget.
TRIGGER_BURST_S = 18.0


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What one table waits for, as input to the time of the next poll.

    Attributes:
        waited_s: How long it has been waiting.
        job_age_s: How old its job is.
        usual_s: How long its syncs usually take; None if that is unknown, or does not matter now.
        is_for_job: It waits until a new job appears.
        is_for_s: It waits until this time has passed; None if it does not wait for a time.
        seems_running: Its record says Running.
    """

    waited_s: float
    job_age_s: float = 0.0
    usual_s: float | None = None
    is_for_job: bool = False
    is_for_s: float | None = None
    seems_running: bool = False


def interval_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time to the next poll that suits one table."""
    growth = GROWTH if wait.usual_s is None else GROWTH_IF_KNOWN
    by_age = min(max(growth * wait.waited_s, settings.poll_min_s), settings.poll_max_s)
    if wait.usual_s is None:
        return by_age
    margin = max(WINDOW * wait.usual_s, SHORTEST_WINDOW_S)
    to_window = wait.usual_s - margin - wait.job_age_s
    if to_window > 0:
        return min(by_age, max(to_window, settings.poll_min_s))
    is_in_window = to_window > -2 * margin
    return min(by_age, max(2 * margin / POLLS_IN_WINDOW, settings.poll_min_s)) if is_in_window else by_age


def listed_interval_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time to the next poll that suits one table whose record the list of sources shows."""
    if wait.is_for_job:
        return search_s(wait, settings=settings)
    if wait.is_for_s is not None:
        return max(wait.is_for_s, settings.poll_min_s)
    # A record that no longer says Running although the table waits: its end is near, or the record is wrong.
    return sweep_s(wait, settings=settings) if wait.seems_running else interval_s(wait, settings=settings)


def search_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time to the next search for a new job."""
    return max(min(SEARCH_GROWTH * wait.waited_s, settings.poll_max_s), SHORTEST_SEARCH_POLLS * settings.poll_min_s)


def sweep_s(wait: Wait, *, settings: SyncSettings) -> float:
    """The time until a job is read whose record says Running.

    Hardly before its usual end, and often enough to keep the deadlines.
    """
    to_end = wait.usual_s - wait.job_age_s if wait.usual_s is not None else 0.0
    wanted = max(SWEEP_GROWTH * wait.waited_s, SHORTEST_SWEEP_S, to_end)
    slack_s = DEADLINE_PART * min(settings.stall_timeout_s, settings.total_timeout_s)
    return min(wanted, LONGEST_SWEEP_S, max(slack_s, settings.poll_min_s))


def pause_s(waits: Iterable[Wait], *, settings: SyncSettings) -> float:
    """The time to the next poll of a source, or of the list of sources: as its most impatient table wants it."""
    return min((interval_s(wait, settings=settings) for wait in waits), default=settings.poll_max_s)


def listed_pause_s(waits: Iterable[Wait], *, settings: SyncSettings) -> float:
    """The time to the next poll of a source whose records the list of sources shows."""
    return min((listed_interval_s(wait, settings=settings) for wait in waits), default=IDLE_S)


def floor_s(*, cost: int, settings: SyncSettings) -> float:
    """The shortest time between two polls of this many requests: `poll_min_s` for one, a quarter for each more."""
    return min(settings.poll_min_s * (3 + cost) / 4, settings.poll_max_s)


class Pace:
    """Keeps a poller that waits for long within its share of the API key's budget, no matter what its tables want.

    It may send `REQUESTS_AT_ONCE`, and then one every `poll_max_s`: 130 in the first hour, and sixty in each later
    one. Each table that was triggered or has ended makes it one more.
    """

    def __init__(self, settings: SyncSettings) -> None:
        self._each_s = settings.poll_max_s
        self._paid_until = -math.inf

    @property
    def at(self) -> float:
        """When the next poll may come."""
        return self._paid_until - REQUESTS_AT_ONCE * self._each_s

    def pay(self, requests: int, *, now: float) -> None:
        """A poll has sent so many requests."""
        self._paid_until = max(self._paid_until, now) + requests * self._each_s

    def regain(self, tables: int) -> None:
        """So many tables were triggered or have ended."""
        self._paid_until -= tables * self._each_s


class Outage:
    """An unbroken run of failed polls of one poller.

    Attributes:
        watched_s: The watched time at its beginning. What is watched from then on does not count for deadlines.
    """

    def __init__(self, *, at: float, watched_s: float, settings: SyncSettings) -> None:
        self.watched_s = watched_s
        self._at = at
        self._settings = settings
        self._failures = 0
        self._asked_s = 0.0
        self._asked_in_all_s = 0.0

    def add(self, exc: PostHogError) -> None:
        """Take another failed poll."""
        self._failures += 1
        self._asked_s = (exc.retry_after_s or self._settings.poll_max_s) if isinstance(exc, RateLimitedError) else 0.0
        self._asked_in_all_s += self._asked_s

    @property
    def pause_s(self) -> float:
        """How long to wait before the next poll: as PostHog asked for, or twice as long each time."""
        if self._asked_s:
            return self._asked_s
        # The bound on the exponent only keeps the power small; poll_max_s is reached long before.
        return min(self._settings.poll_min_s * 2.0 ** min(self._failures - 1, 10), self._settings.poll_max_s)

    def lasts_s(self, now: float) -> float:
        """How long the outage has lasted, in seconds."""
        return now - self._at

    def is_too_long(self, now: float) -> bool:
        """Whether to give up.

        Pauses that PostHog asked for (429) do not count as unreachable: PostHog answered. They end at the total
        timeout, because other programs can use up the key's rate limit without end.
        """
        lasted_s, timeout_s = self.lasts_s(now), self._settings.unreachable_timeout_s
        is_unreachable = lasted_s - self._asked_in_all_s >= timeout_s
        return is_unreachable or lasted_s >= max(self._settings.total_timeout_s, timeout_s)


class PollSchedule:
    """When one poller polls next. All times are on the monotonic clock.

    Args:
        at: The time of the first poll.
        settings: The engine's settings.
        chance: Returns a random number between 0 and 1.

    Attributes:
        next_at: The time of the next poll.
        cost: How many requests the last poll took.
        outage: The outage that the last poll belongs to; None if the last poll succeeded.
    """

    def __init__(self, *, at: float, settings: SyncSettings, chance: Callable[[], float]) -> None:
        self.next_at = at
        self.cost = 1
        self.outage: Outage | None = None
        self._settings = settings
        self._chance = chance
        self._polled_at = self._rests_until = at
        self._pace = Pace(settings)
        self._live = 0

    def plan(self, pause_s: float, *, now: float, live: int = 0) -> None:
        """Plan the next poll, just after a poll.

        Args:
            pause_s: The pause that the tables want. An outage, a costly poll or the pace makes it longer.
            now: The time.
            live: How many tables have not ended.
        """
        self._polled_at = now
        self._pace.regain(max(self._live - live, 0))
        self._pace.pay(self.cost, now=now)
        self._live = live
        if self.outage is not None:
            pause_s = self.outage.pause_s
        else:
            pause_s = max(pause_s, self._paced_s(now), self._floor_s, self._rests_until - now)
        self.next_at = now + pause_s * (1 + JITTER * self._chance()) if isfinite(pause_s) else pause_s

    def poll_soon(self, pause_s: float, *, now: float) -> None:
        """Make the next poll come after this pause, unless it comes earlier anyway. It never shortens an outage."""
        self._pace.regain(1)
        if self.outage is None:
            soon = max(now + max(pause_s, self._paced_s(now)), self._polled_at + self._floor_s, self._rests_until)
            self.next_at = min(self.next_at, soon)

    def poll_at_once(self) -> None:
        """Make the next poll come before everything else, unless there is an outage."""
        if self.outage is None:
            self.next_at = AT_ONCE

    def rest(self, pause_s: float, *, now: float) -> None:
        """Let no poll come earlier than after this pause."""
        self._rests_until = now + pause_s

    def failed(self, exc: PostHogError, *, now: float, watched_s: float) -> Outage:
        """A poll failed; returns the outage that this poll begins or prolongs."""
        if self.outage is None:
            self.outage = Outage(at=now, watched_s=watched_s, settings=self._settings)
        self.outage.add(exc)
        return self.outage

    def succeeded(self) -> Outage | None:
        """A poll succeeded; returns the outage that it ends."""
        ended, self.outage = self.outage, None
        return ended

    def _paced_s(self, now: float) -> float:
        return min(self._pace.at - now, self._settings.poll_max_s)

    @property
    def _floor_s(self) -> float:
        return floor_s(cost=self.cost, settings=self._settings)


class TriggerGate:
    """When the next trigger may go. All times are on the monotonic clock.

    Args:
        sources: How many sources there are. One table of each may be triggered at once.
        settings: The engine's settings.
        now: The time.
        per_min: How many triggers a minute may go after that.
    """

    def __init__(self, *, sources: int, settings: SyncSettings, now: float, per_min: float = TRIGGERS_PER_MIN) -> None:
        self._settings = settings
        self._each_s = MINUTE_S / per_min
        self._burst_s = min((sources - 1) * self._each_s, TRIGGER_BURST_S)
        self._last_at = self._paid_until = self._opens_at = now
        self._closed_since: float | None = None

    @property
    def at(self) -> float:
        """When the next trigger may go: never before the last one, so that polls get their turn."""
        return max(self._last_at, self._opens_at, self._paid_until - self._burst_s)

    def passed(self, now: float) -> None:
        """A trigger was sent, and it may have had an effect.

        Triggers that are late, because the events of other tables took their time, are made up for: as many as may go
        at once.
        """
        self._last_at = now
        self._paid_until = max(self._paid_until, now + self._burst_s - TRIGGER_BURST_S) + self._each_s
        self._closed_since = None

    def close(self, now: float, *, pause_s: float) -> None:
        """PostHog did not accept a trigger; the next one may go after this pause."""
        self._opens_at = now + pause_s
        self._paid_until = max(self._paid_until, self._opens_at)
        self._closed_since = now if self._closed_since is None else self._closed_since

    def is_given_up(self, now: float) -> bool:
        """Whether no trigger has been accepted for so long that the remaining tables are not tried."""
        limit_s = max(self._settings.unreachable_timeout_s, self._settings.total_timeout_s)
        return self._closed_since is not None and now - self._closed_since >= limit_s
