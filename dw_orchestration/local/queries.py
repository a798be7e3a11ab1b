"""Queries over the synced tables in DuckDB's SQL, with PostHog's placeholders, limits and shape of the answer."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import duckdb
import pyarrow as pa

from dw_orchestration.local.query_values import clickhouse_type, json_values
from dw_orchestration.local.syncing import SourceError
from dw_orchestration.local.syncing.cancelling import interrupting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from dw_orchestration.local.syncing import Warehouse

logger = logging.getLogger(__name__)

ROWS_WITHOUT_LIMIT = 100
MOST_ROWS = 50_000
LONGEST_S = 60.0
LONGEST_IN_BACKGROUND_S = 600.0
_KEPT_ANSWERS = 20
_ROWS_PER_BATCH = 10_000

# DuckDB's texts have no backslash escapes
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | (?P<code>[^'"/-]+ | .)""", re.VERBOSE | re.DOTALL
)
_PLACEHOLDER = re.compile(r"\{\s*([A-Za-z_]\w*)\s*\}")
_DECIMAL = re.compile(r"\btoDecimal\(\s*([^(),]+?)\s*,\s*(\d{1,2})\s*\)", re.IGNORECASE)
# functions that make rows of their arguments; all others read what is not a synced table
_ROW_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})


class QueryRefusedError(Exception):
    """The query cannot be run; the message says why, in the words of the parser or of the database."""


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """Rows and their columns, as JSON has them."""

    columns: list[str]
    types: list[tuple[str, str]]
    results: list[list[Any]]
    limit: int
    has_more: bool


class Queries:
    """Runs queries, one at a time since the file is opened for each; keeps the last answers of those without a caller.

    Args:
        warehouse: The tables.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="query")
        self._lock = threading.Lock()
        self._started: OrderedDict[str, BackgroundQuery] = OrderedDict()

    def run(
        self,
        text: str,
        values: Mapping[str, Any],
        *,
        tables: Collection[tuple[str, str]],
        cancelled: threading.Event | None = None,
        longest_s: float = LONGEST_S,
    ) -> QueryAnswer:
        """The answer to a query that reads these tables only.

        Raises:
            QueryRefusedError: It cannot be run, or takes too long.
        """
        stop = cancelled or threading.Event()
        timer = threading.Timer(longest_s, stop.set)
        timer.daemon = True
        try:
            with self._warehouse.reading() as connection:
                timer.start()
                with interrupting(stop, connection.interrupt):
                    return _answer(connection, text, values, tables=tables)
        except duckdb.InterruptException:
            raise QueryRefusedError(
                f"The query took longer than {longest_s:.0f} s (estimated execution time)."
            ) from None
        except pa.ArrowInvalid:
            raise QueryRefusedError("A sum or another integer has more than 64 bits: cast it to text.") from None
        except (duckdb.Error, SourceError, UnicodeError) as error:
            raise QueryRefusedError(str(error)) from None
        finally:
            timer.cancel()

    def start(self, text: str, values: Mapping[str, Any], *, tables: Collection[tuple[str, str]]) -> BackgroundQuery:
        """Begin a query whose answer is fetched later."""
        query = BackgroundQuery(id=str(uuid4()))
        with self._lock:
            self._started[query.id] = query
            while len(self._started) > _KEPT_ANSWERS:
                self._started.popitem(last=False)[1].cancelled.set()
        self._workers.submit(self._finish, query, text, values, tables)
        return query

    def started(self, query_id: str) -> BackgroundQuery | None:
        """A query that was begun; None if its answer is no longer kept."""
        return self._started.get(query_id)

    def stop(self) -> None:
        """End all queries that were begun."""
        for query in self._started.values():
            query.cancelled.set()
        self._workers.shutdown(cancel_futures=True)

    def _finish(
        self, query: BackgroundQuery, text: str, values: Mapping[str, Any], tables: Collection[tuple[str, str]]
    ) -> None:
        try:
            query.answer = self.run(
                text, values, tables=tables, cancelled=query.cancelled, longest_s=LONGEST_IN_BACKGROUND_S
            )
        except QueryRefusedError as error:
            query.error = str(error)
        except Exception:
            logger.exception("A query in the background broke off")
            query.error = "The query failed."
        finally:
            query.ended.set()


@dataclass(slots=True)
class BackgroundQuery:
    """A query without a caller that waits."""

    id: str
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    answer: QueryAnswer | None = None
    error: str | None = None


def _answer(
    connection: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Any], *, tables: Collection[tuple[str, str]]
) -> QueryAnswer:
    sql, used = _with_parameters(text)
    if missing := used - values.keys():
        raise QueryRefusedError(f"Unresolved placeholder: {{{min(missing)}}}")
    limit = MOST_ROWS if _has_limit(_checked(connection, sql, tables=tables)) else ROWS_WITHOUT_LIMIT
    found = connection.sql(sql, params={name: values[name] for name in used} or None)
    # DuckDB's own types: Arrow has the same one for a large integer and a decimal
    described = list(zip(found.columns, map(str, found.types), strict=True))
    reader: Any = found.to_arrow_reader(_ROWS_PER_BATCH)
    columns: list[list[Any]] = [[] for _ in described]
    for batch in reader:
        for index, column in enumerate(batch.columns):
            columns[index] += json_values(column, described[index][1])
        if columns and len(columns[0]) > limit:
            break
    rows = [list(row) for row in zip(*columns, strict=True)]
    return QueryAnswer(
        columns=found.columns,
        types=[
            (name, clickhouse_type(arrow.type, kind))
            for (name, kind), arrow in zip(described, reader.schema, strict=True)
        ],
        results=rows[:limit],
        limit=limit,
        has_more=len(rows) > limit,
    )


def _with_parameters(text: str) -> tuple[str, set[str]]:
    """The query with DuckDB's parameters for the placeholders, and their names."""
    names: set[str] = set()

    def parameter(found: re.Match[str]) -> str:
        names.add(found[1])
        return f"${found[1]}"

    def in_code(token: re.Match[str]) -> str:
        if token["code"] is None:
            return token[0]
        return _PLACEHOLDER.sub(parameter, _DECIMAL.sub(r"CAST(\1 AS DECIMAL(18, \2))", token[0]))

    return _TOKEN.sub(in_code, text), names


def _checked(connection: duckdb.DuckDBPyConnection, sql: str, *, tables: Collection[tuple[str, str]]) -> dict[str, Any]:
    """The parsed query, if it is one that only reads synced tables.

    Raises:
        QueryRefusedError: It is another statement, several, or reads something else.
    """
    ((parsed,),) = connection.execute("SELECT json_serialize_sql($sql::VARCHAR)", {"sql": sql}).fetchall()
    found = json.loads(parsed)
    if found.get("error"):
        if found.get("error_type") == "not implemented":
            raise QueryRefusedError("Only SELECT statements can be run.")
        raise QueryRefusedError(str(found.get("error_message")))
    if len(found["statements"]) != 1:
        raise QueryRefusedError("Only one statement can be run at a time.")
    query: dict[str, Any] = found["statements"][0]["node"]
    known = {(schema.lower(), name.lower()) for schema, name in tables}
    for name in _read_by(query, frozenset()):
        if name not in known:
            raise QueryRefusedError(f"Unknown table `{'.'.join(part for part in name if part)}`.")
    return query


def _read_by(node: object, own: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The schema and name of each table that a query reads, but for those that it defines itself."""
    if isinstance(node, list):
        for each in node:
            yield from _read_by(each, own)
    if not isinstance(node, dict):
        return
    if "cte_map" in node:
        own |= {str(each["key"]).lower() for each in node["cte_map"]["map"]}
    match node.get("type"):
        case "BASE_TABLE":
            schema, name = str(node["schema_name"]).lower(), str(node["table_name"]).lower()
            if node["catalog_name"] or schema or name not in own:
                yield (f"{node['catalog_name']}.{schema}" if node["catalog_name"] else schema, name)
        case "TABLE_FUNCTION" if node["function"]["function_name"].lower() not in _ROW_FUNCTIONS:
            yield ("", f"{node['function']['function_name']}(...)")
        case "SHOW_REF":
            raise QueryRefusedError("Only SELECT statements can be run.")
    for each in node.values():
        yield from _read_by(each, own)


def _has_limit(query: Mapping[str, Any]) -> bool:
    return any("LIMIT" in modifier["type"] for modifier in query.get("modifiers", ()))
