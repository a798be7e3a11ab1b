"""The Night Ferry: a small shop in a real database that keeps selling, to have something to sync."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dw_orchestration.local.shop.postgres import DatabaseLogin, EmbeddedPostgres, cure
from dw_orchestration.local.shop.programs import PostgresError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["DatabaseLogin", "EmbeddedPostgres", "PostgresError", "Shop"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Shop:
    """A shop with its customers, in its own PostgreSQL under ``folder``.

    Args:
        folder: Where everything is kept; deleting it while the shop is closed begins a new shop.
        seed: The same seed gives the same history.
        now: When the history ends; asked once, as the shop is first opened.

    Example:
        >>> shop = Shop(Path("shop"))
        >>> connection = shop.start()
        >>> shop.stop()
    """

    def __init__(self, folder: Path, *, seed: int = 7, now: Callable[[], datetime] = _utc_now) -> None:
        self._folder = folder
        self._postgres = EmbeddedPostgres(folder)
        self._seed = seed
        self._now = now
        self._open: ExitStack | None = None

    def start(self) -> DatabaseLogin:
        """Open the shop, the first time with ninety days of history, and start selling.

        Raises:
            PostgresError: The shop is open already, or its PostgreSQL cannot be started.
        """
        import psycopg

        from dw_orchestration.local.shop import database
        from dw_orchestration.local.shop.traffic import Traffic

        with ExitStack() as undo:
            server = self._postgres.start()
            undo.callback(self._postgres.stop)
            connection = replace(server, database=database.DATABASE)
            rng = random.Random(self._seed)  # noqa: S311 - invented orders, not secrets
            try:
                database.create_database(server)
                database.fill(connection, now=self._now, rng=rng)
            except psycopg.Error as error:
                problem = " ".join(str(error).split())
                raise PostgresError(
                    f"The shop in {self._folder} cannot be opened ({problem}). {cure(self._folder)}"
                ) from None
            traffic = Traffic(connection, rng=rng)
            traffic.start()
            undo.callback(traffic.stop)
            self._open = undo.pop_all()
        return connection

    def stop(self) -> None:
        """Stop selling and shut the database down. Calling it twice does no harm."""
        if self._open is not None:
            self._open.close()
            self._open = None
