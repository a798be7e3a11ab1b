"""What a table's record tells of syncs: where it shows something new, the jobs are worth reading."""

from dw_orchestration.posthog.enums import SyncStatus
from dw_orchestration.posthog.models import Schema
from dw_orchestration.sync.phase import Phase


def is_news(before: Schema | None, after: Schema | None, *, phase: Phase) -> bool:
    """Whether a table's record tells of more than the sync that is expected to run."""
    if before is None or after is None or before.last_synced_at != after.last_synced_at:
        return True
    is_expected = after.status is SyncStatus.RUNNING and phase in {Phase.AWAITING, Phase.FOLLOWING}
    return before.status != after.status and not is_expected
