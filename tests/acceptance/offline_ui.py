"""Dagster's UI on the project in the current folder: prints the asset keys that it shows, and ends it.

It runs where there is no network, so what asks the webserver has to be in there with it.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

QUERY = b'{"query": "{ assetNodes { assetKey { path } } }"}'
WITHIN_S = 240.0


def main() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-m", "project.definitions", "-p", str(port)]
    log = Path("ui.log").open("wb")  # noqa: SIM115  it ends with this process
    ui = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": "src"})
    try:
        print(json.dumps(keys(f"http://127.0.0.1:{port}/graphql")))  # noqa: T201
    finally:
        ui.terminate()
        ui.wait(120)


def keys(address: str) -> list[str]:
    """The keys, once the code location has been loaded."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        request = urllib.request.Request(address, data=QUERY, headers={"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  our own server
                nodes = json.load(answer)["data"]["assetNodes"]
        except OSError:
            nodes = []
        if nodes:
            return sorted("/".join(node["assetKey"]["path"]) for node in nodes)
        time.sleep(0.2)
    raise SystemExit(Path("ui.log").read_text())


if __name__ == "__main__":
    main()
