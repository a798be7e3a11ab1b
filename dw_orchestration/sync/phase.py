"""Where a table is on its way through a batch."""

from enum import Enum, auto


class Phase(Enum):
    """Where a table is on its way."""

    NEW = auto()
    """Nothing has been read of it."""
    QUEUED = auto()
    """Its turn to be triggered will come."""
    WAITING = auto()
    """A running sync has to end first."""
    HOLDING = auto()
    """PostHog's own sync is due, and may appear yet."""
    AWAITING = auto()
    """Triggered, or its sync was interrupted: a new job is to appear."""
    FOLLOWING = auto()
    """Its job is known and goes on."""
    ENDED = auto()
