"""Reading the synced tables: queries whose tables are named by asset key or by any of their names."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, overload

import dagster as dg

from dw_orchestration.posthog.arrow import Frame, as_frame, check_installed
from dw_orchestration.posthog.client import PostHogWarehouseClient
from dw_orchestration.posthog.limits import ROWS_PER_QUERY
from dw_orchestration.tables.names import KeyPath
from dw_orchestration.tables.tables import Tables

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

TableRef = str | dg.AssetKey | Sequence[str]
"""A table: its asset key, or any of the names that users type for it."""

# the key of `TableMetadata.schema_id`, which a higher layer declares
_SCHEMA_ID = "posthog/schema_id"


class TableReader:
    """What can be read from a warehouse; the same for PostHog and for the embedded warehouse."""

    @abstractmethod
    def connect(self) -> AbstractContextManager[PostHogWarehouseClient]:
        """A client for the time of a `with` statement."""

    @overload
    def query(
        self,
        sql: str,
        *,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Literal["arrow"] = "arrow",
        in_background: bool = False,
    ) -> "pa.Table": ...
    @overload
    def query(
        self,
        sql: str,
        *,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Literal["pandas"],
        in_background: bool = False,
    ) -> "pd.DataFrame": ...
    @overload
    def query(
        self,
        sql: str,
        *,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Literal["polars"],
        in_background: bool = False,
    ) -> "pl.DataFrame": ...
    def query(
        self,
        sql: str,
        *,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Frame = "arrow",
        in_background: bool = False,
    ) -> Any:
        """The rows of a query over synced tables, calculated now and not taken from PostHog's cache.

        Without a LIMIT these are all rows, at most 50,000. With one at the end of the query they are as many as it
        asks for.

        Args:
            sql: HogQL; DuckDB's SQL in the embedded warehouse. Names in braces are placeholders.
            table: The table that `{table}` is in the query, by its asset key or any of its names.
            tables: The tables of other placeholders: `{"orders": ["posthog", "postgres", "shop", "orders"]}`.
            values: The values of placeholders. They are sent next to the query and never become a part of its text.
            to: An Arrow table, or a data frame of pandas or Polars.
            in_background: Whether PostHog calculates without an open connection, for queries of more than a minute.

        Raises:
            TooManyRowsError: The query has more than 50,000 rows: use `in_batches`, or a LIMIT.
            QueryError: PostHog could not run the query; the text says why.
            MissingScopeError: The key lacks the scope `query:read`.
            UnknownNameError: No table has the name, or several have it.
            UsageError: A placeholder has nothing that fills it, a value is not possible, or a table was never synced.
            SetupError: A package is not installed that this kind of table needs.
            PostHogError: PostHog is unreachable.

        Example:
            ```python
            @dg.asset(deps=[ORDERS])
            def large_orders(posthog_warehouse: WarehouseResource) -> None:
                query = "select * from {table} where total > {least}"
                orders = posthog_warehouse.query(query, table=ORDERS, values={"least": 100})
            ```
        """
        check_installed(to)
        with self.connect() as client:
            names = names_in_queries(client, _all_tables(table, tables))
            result = client.queries.run(sql, tables=names, values=values, in_background=in_background)
        return as_frame(result, to)

    @overload
    def in_batches(
        self,
        sql: str,
        *,
        key: str,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Literal["arrow"] = "arrow",
        rows: int = ROWS_PER_QUERY,
        in_background: bool = False,
    ) -> "Iterator[pa.Table]": ...
    @overload
    def in_batches(
        self,
        sql: str,
        *,
        key: str,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Literal["pandas"],
        rows: int = ROWS_PER_QUERY,
        in_background: bool = False,
    ) -> "Iterator[pd.DataFrame]": ...
    @overload
    def in_batches(
        self,
        sql: str,
        *,
        key: str,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Literal["polars"],
        rows: int = ROWS_PER_QUERY,
        in_background: bool = False,
    ) -> "Iterator[pl.DataFrame]": ...
    def in_batches(
        self,
        sql: str,
        *,
        key: str,
        table: TableRef | None = None,
        tables: Mapping[str, TableRef] | None = None,
        values: Mapping[str, Any] | None = None,
        to: Frame = "arrow",
        rows: int = ROWS_PER_QUERY,
        in_background: bool = False,
    ) -> Iterator[Any]:
        """The rows of a query of any size in the order of a key, one table after the other, each fetched when needed.

        Each table continues at the key where the one before ended, so that rows which arrive meanwhile shift nothing.

        Args:
            sql: As for `query`.
            key: A column of the result, best a unique one: text, a whole number, a date or a time.
            table: As for `query`.
            tables: As for `query`.
            values: As for `query`.
            to: As for `query`.
            rows: How many rows a table has at most. Fewer save memory and take more requests.
            in_background: As for `query`.

        Raises:
            UsageError: The result has no such column, or more rows than fit into one table share a key.
            PostHogError: As for `query`.

        Example:
            ```python
            for orders in posthog_warehouse.in_batches("select * from {table}", table=ORDERS, key="id"):
                writer.write_table(orders)
            ```
        """
        check_installed(to)
        with self.connect() as client:
            names = names_in_queries(client, _all_tables(table, tables))
            batches = client.queries.in_batches(
                sql, key=key, tables=names, values=values, rows=rows, in_background=in_background
            )
            for batch in batches:
                yield as_frame(batch, to)


def names_in_queries(client: PostHogWarehouseClient, wanted: Mapping[str, TableRef]) -> dict[str, str]:
    """The names that queries use, by placeholder. Asks PostHog, which decides on these names.

    Raises:
        UnknownNameError: A name names no table, or several.
        UsageError: A table has not been synced yet.
        PostHogError: PostHog is unreachable.
    """
    if not wanted:
        return {}
    tables = Tables.live(client.list_sources(), key_paths=_key_paths_of_the_run())
    return {placeholder: tables.name_in_queries(_name(table)) for placeholder, table in wanted.items()}


def _name(table: TableRef) -> str:
    return table if isinstance(table, str) else dg.AssetKey.from_coercible(table).to_user_string()


def _key_paths_of_the_run() -> dict[str, KeyPath]:
    """The keys of a running asset's upstream tables, by schema id: a translation may have set them."""
    try:
        context = dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return {}
    graph = context.job_def.asset_layer.asset_graph
    nodes = [node for node in graph.asset_nodes if _SCHEMA_ID in node.metadata]
    return {str(node.metadata[_SCHEMA_ID]): tuple(node.key.path) for node in nodes}


def _all_tables(table: TableRef | None, tables: Mapping[str, TableRef] | None) -> dict[str, TableRef]:
    """The tables by placeholder."""
    return dict(tables or {}) | ({} if table is None else {"table": table})
