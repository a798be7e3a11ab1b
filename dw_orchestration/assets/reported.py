"""What has been reported of a table's last syncs, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from dw_orchestration.assets.metadata import JOB_ID, ROWS_SYNCED


@dataclass(frozen=True)
class ReportedSyncs:
    """The metadata of a table's last completed syncs, as runs and the sensor have reported them; the newest first."""

    metadata: tuple[Mapping[str, dg.MetadataValue], ...] = ()

    @property
    def last(self) -> Mapping[str, dg.MetadataValue]:
        """What was said of the last one; empty before the first."""
        return self.metadata[0] if self.metadata else {}

    def include(self, job_id: str) -> bool:
        """Whether the job is among them."""
        return any(_is_of(job_id, each) for each in self.metadata)

    def rows_synced(self, *, but: str) -> list[int]:
        """How many rows each of them brought, without the job `but`: it is no measure of itself."""
        values = [each.get(ROWS_SYNCED) for each in self.metadata if not _is_of(but, each)]
        return [value.value for value in values if isinstance(value, dg.IntMetadataValue) and value.value is not None]


def _is_of(job_id: str, metadata: Mapping[str, dg.MetadataValue]) -> bool:
    value = metadata.get(JOB_ID)
    return value is not None and value.value == job_id
