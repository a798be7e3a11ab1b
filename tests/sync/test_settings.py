"""The settings of a run of the engine."""

from datetime import datetime
from typing import Any

import pytest
from sync_model import START

from dw_orchestration.sync.settings import SyncMode, SyncSettings


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"start_timeout_s": 0}, "start_timeout_s\n  Input should be greater than 0"),
        ({"poll_min_s": -1.0}, "poll_min_s\n  Input should be greater than 0"),
        ({"poll_min_s": 61.0}, "is above poll_max_s"),
        ({"accept_jobs_since": datetime(2026, 1, 1)}, "accept_jobs_since\n  Input should have timezone"),  # noqa: DTZ001  what is refused
        ({"trigger_after": datetime(2026, 1, 1)}, "trigger_after\n  Input should have timezone"),  # noqa: DTZ001  what is refused
        ({"if_running": "adopt"}, "if_running\n  Input should be 'attach', 'wait_then_reload' or 'fail'"),
        ({"start_timeout": 60}, "start_timeout\n  Extra inputs are not permitted"),
    ],
)
def test_invalid_settings_are_refused_early(settings: dict[str, Any], complaint: str) -> None:
    """A setting that cannot work is refused when it is made, by its name."""
    with pytest.raises(ValueError, match=complaint):
        SyncSettings(**settings)


def test_only_a_resync_can_replace_a_resync() -> None:
    """`accept_jobs_since` would let any sync count as a resync."""
    with pytest.raises(ValueError, match="no other sync can replace a resync"):
        SyncSettings(sync_mode=SyncMode.RESYNC, accept_jobs_since=START)


@pytest.mark.parametrize("name", SyncSettings.model_fields)
def test_each_setting_is_described(name: str) -> None:
    """The description is a sentence; that of a duration has its unit. It is what users read in the launchpad."""
    description = SyncSettings.model_fields[name].description or ""

    assert description.endswith(".")
    assert "seconds" in description or not name.endswith("_s")
