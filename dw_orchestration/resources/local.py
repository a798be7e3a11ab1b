"""The resource that starts the embedded warehouse and reaches it like any PostHog project."""

from pathlib import Path

from pydantic import Field

from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.resources.embedded_process import START_WITHIN_S, EmbeddedProcess, Endpoint
from dw_orchestration.resources.warehouse import WarehouseResource


class LocalWarehouse(WarehouseResource):
    """The embedded warehouse: PostHog's API on this machine, syncing for real into a DuckDB file.

    It runs as one process per `home`, started when it is first needed and gone soon after the last user of this
    resource has ended. Needs the extra `local`.

    Example:
        ```python
        LocalWarehouse(home=".dw_orchestration")
        ```
    """

    home: str = Field(
        default=".dw_orchestration",
        description="The one folder that holds everything: the DuckDB file `warehouse.duckdb`, state, logs, the shop.",
    )
    shop: bool = Field(
        default=True,
        description="Whether it also runs a Postgres with a small shop that keeps selling, as the first source.",
    )
    fixtures: str | None = Field(
        default=None,
        description="A folder with files in place of vendors: <source type>/<table>.parquet, .csv or .jsonl.",
    )
    start_timeout_s: float = Field(
        default=START_WITHIN_S,
        gt=0,
        description="Seconds to wait for it to listen. The first start creates a database, which takes some ten.",
    )

    @property
    def name(self) -> str:
        """The same for every port."""
        return "embedded warehouse"

    @property
    def database(self) -> Path:
        """The DuckDB file that the tables are synced into; it exists after the first sync."""
        return self._process.home / "warehouse.duckdb"

    def client(self) -> PostHogWarehouseClient:
        """A client of the embedded warehouse, which is started if it is not running.

        Raises:
            LocalWarehouseError: It could not be started; the text ends with the last lines of its output.
        """
        return self._process.client()

    def ensure_running(self) -> Endpoint:
        """Start the embedded warehouse unless it runs, and keep it for as long as this process lives.

        Raises:
            LocalWarehouseError: It could not be started.
        """
        return self._process.ensure_running()

    def stop(self) -> None:
        """Stop the embedded warehouse if it runs, even if it is in use; running syncs fail, and what it keeps stays.

        Raises:
            LocalWarehouseError: It is still there after `start_timeout_s`.
        """
        self._process.stop()

    @property
    def _process(self) -> EmbeddedProcess:
        ready = self.with_environment()
        return EmbeddedProcess(
            Path(ready.home),
            shop=ready.shop,
            fixtures=Path(ready.fixtures) if ready.fixtures else None,
            start_timeout_s=ready.start_timeout_s,
        )
