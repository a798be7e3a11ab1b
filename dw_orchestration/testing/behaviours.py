"""What a test may ask the embedded warehouse to do wrong, for one table or as a whole.

The sync itself stays real: a behaviour bends only what happens around it, and lasts until `reset`.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TableBehaviour:
    """How the syncs of a table are to behave; made by the functions below. Two of them can be joined with `|`."""

    settings: Mapping[str, object]

    def __or__(self, other: "TableBehaviour") -> "TableBehaviour":
        """Both at once; where they contradict each other, the later one."""
        return TableBehaviour({**self.settings, **other.settings})


@dataclass(frozen=True)
class WarehouseBehaviour:
    """How the warehouse is to answer every call; made by the functions below."""

    settings: Mapping[str, object]


def fails(error: str, *, permanent: bool = False, times: int | None = None) -> TableBehaviour:
    """The source fails with this error, and so does the job.

    Args:
        error: The source's own words; they become the job's `latest_error`.
        permanent: Whether it is one of the errors at which PostHog switches the table off.
        times: How many jobs fail before one succeeds again; None for all.

    Example:
        ```python
        embedded_warehouse.behave("Customer", fails("No such permission", permanent=True))
        ```
    """
    return TableBehaviour({"error": error, "error_is_permanent": permanent, "error_times": times})


def billing_limit() -> TableBehaviour:
    """The project is over its billing limit: the job ends at once as `Billing limits`, without rows."""
    return TableBehaviour({"billing": "reached"})


def billing_limit_too_low() -> TableBehaviour:
    """The table's rows would pass the billing limit: the job ends at once as `Billing limit too low`."""
    return TableBehaviour({"billing": "too_low"})


def never_starts() -> TableBehaviour:
    """A trigger is accepted and the table shows Running, but no job ever appears, as on older servers."""
    return TableBehaviour({"starts": False})


def job_appears_after(seconds: float) -> TableBehaviour:
    """The workers are busy: so much time passes between the trigger and the job."""
    return TableBehaviour({"job_after_s": seconds})


def runs_for(seconds: float) -> TableBehaviour:
    """The sync takes so long, at least; it can be cancelled all the while."""
    return TableBehaviour({"lasts_s": seconds})


def never_ends() -> TableBehaviour:
    """The job stays Running and no rows move, until it is cancelled or the behaviour is reset."""
    return TableBehaviour({"ends": False})


def splits() -> TableBehaviour:
    """PostHog restarts its workers under the sync: the first job fails, and another follows by itself."""
    return TableBehaviour({"splits": True})


def loses_triggers() -> TableBehaviour:
    """A trigger is accepted, and nothing happens: the table does not even show Running."""
    return TableBehaviour({"loses_triggers": True})


def shows_status(status: str) -> TableBehaviour:
    """A running job shows this status, as a server newer than your code might."""
    return TableBehaviour({"shows_status": status})


def is_not_billed() -> TableBehaviour:
    """The jobs of the table are not billable, as those that PostHog starts for its own reasons."""
    return TableBehaviour({"billable": False})


def has_two_jobs() -> TableBehaviour:
    """Each sync has two jobs, as a table has that arrives by change data capture in the mode `both`."""
    return TableBehaviour({"cdc_both": True})


def fails_to_save() -> TableBehaviour:
    """Changes of several tables at once are saved without this one, and the answer is a 503."""
    return TableBehaviour({"bulk_save_fails": True})


def loses_answers(times: int = 1) -> WarehouseBehaviour:
    """The next changes take effect, but the connection breaks off before the answer.

    Args:
        times: How many of them.
    """
    return WarehouseBehaviour({"lost_answers": times})


def broken(seconds: float | None = None) -> WarehouseBehaviour:
    """Every call is PostHog's own 500, as JSON.

    Args:
        seconds: For how long; None until the reset.
    """
    return WarehouseBehaviour({"refuses": "broken", "for_s": seconds})


def throttled(seconds: float | None = None, *, retry_after_s: int = 1) -> WarehouseBehaviour:
    """Every call is a 429 with this Retry-After.

    Args:
        seconds: For how long; None until the reset.
        retry_after_s: The seconds in Retry-After.
    """
    return WarehouseBehaviour({"refuses": "throttled", "for_s": seconds, "retry_after_s": retry_after_s})


def down(seconds: float) -> WarehouseBehaviour:
    """Every call is a gateway's 502, a page of HTML, for so long."""
    return WarehouseBehaviour({"refuses": "down", "for_s": seconds})


def unavailable() -> WarehouseBehaviour:
    """As `down`, until the reset."""
    return WarehouseBehaviour({"refuses": "down"})
