"""The errors that a table can end with."""

from dw_orchestration.sync import errors
from dw_orchestration.sync.errors import SyncOutcome


def every_error() -> list[type[errors.SyncError]]:
    """All error classes below the base."""
    return [getattr(errors, name) for name in errors.__all__ if name != "SyncError"]


def test_each_error_has_its_own_outcome_and_its_place_in_the_tree() -> None:
    """Ends differ by class and by outcome alike; the tree at the top of the module is complete."""
    outcomes = [error.outcome for error in every_error()]

    assert len(outcomes) == len(set(outcomes))
    assert set(SyncOutcome) - {SyncOutcome.COMPLETED, SyncOutcome.SUBMITTED} == set(outcomes)
    assert [] == [error.__name__ for error in every_error() if f"─ {error.__name__}" not in (errors.__doc__ or "")]
