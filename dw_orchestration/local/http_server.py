"""An HTTP server in a thread, on a socket that is bound before it starts."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from fastapi import FastAPI

HOST = "127.0.0.1"
BACKLOG = 128
DRAIN_S = 1
KEEP_ALIVE_S = 75  # longer than a client pauses between two polls


def bind(port: int = 0) -> socket.socket:
    """A listening socket on loopback; callers can connect from now on. Port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    # The protocol is named because asyncio turns Nagle's delay off (40 ms an answer) only then.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """Waits for its end, where uvicorn looks for it ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended: Future[None] = Future()

    async def main_loop(self) -> None:
        # makes the headers of all answers
        await self.on_tick(0)
        await asyncio.wrap_future(self.ended)


class HttpServer:
    """Serves an application on a bound socket until it is stopped."""

    def __init__(self, app: FastAPI, *, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,  # the application knows the time that the warehouse lives in
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the calls that are being answered, for a second at most, and stop."""
        self._server.ended.set_result(None)
        self._thread.join()
