"""Dagster's UI as `make run` starts it, and a browser in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg
import psutil  # type: ignore[import-untyped]  # it has no types
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from dw_orchestration import LocalWarehouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.conftest import WaitUntil

IMAGES = os.environ.get("DW_ORCHESTRATION_IMAGES")
CHROMIUM = shutil.which("chromium")
# as root there is no sandbox, and what Chromium does by itself in the background needs a network
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OURS = ("DAGSTER_", "DW_ORCHESTRATION_", "POSTHOG_")
# the name that `make run` has for it
WORKSPACE = "load_from: [{{python_file: {{relative_path: '{file}', location_name: dw_orchestration}}}}]"
SETTINGS = "telemetry:\n  enabled: false\nnux:\n  enabled: true\n"


@dataclass(frozen=True)
class Site:
    """The UI's address, and its folders."""

    address: str
    home: Path
    warehouse: LocalWarehouse
    wait_until: WaitUntil

    def instance(self) -> dg.DagsterInstance:
        """What Dagster has seen."""
        return dg.DagsterInstance.from_config(str(self.home))

    def wait_for_end(self, run_id: str) -> None:
        """Wait until a run is over."""
        with self.instance() as instance:
            self.wait_until(lambda: instance.get_run_by_id(run_id).is_finished)

    def lineage(self, *groups: str) -> str:
        """The page with the lineage, some groups of which are open."""
        opened = ",".join(f"global@global:{group}" for group in groups)
        return f"{self.address}/asset-groups/?expanded={quote(opened, safe='')}"

    def asset(self, *key: str, view: str = "overview") -> str:
        """The page of an asset."""
        return f"{self.address}/assets/{'/'.join(key)}?view={view}"


@dataclass(frozen=True)
class Camera:
    """Takes the pictures that the documentation shows."""

    page: Page
    folder: Path
    for_readers: bool

    def visit(self, address: str, *, width: int = 1400, height: int = 900) -> None:
        """Open a page in a window of this size: what is drawn on a page does not follow when the window changes."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto(address)

    def take(self, name: str) -> None:
        """Write a picture of what the window shows, when it has come to rest."""
        self.page.wait_for_load_state("networkidle")
        self.page.mouse.move(0, 0)
        with Image.open(BytesIO(self.page.screenshot(animations="disabled"))) as shot:
            # the UI has few colours: a palette of them takes a third of the space
            shot.quantize(256).save(self.folder / f"{name}.png", optimize=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, wait_until: WaitUntil) -> Iterator[Site]:
    """The default code location on a new embedded warehouse, served by `dagster dev`."""
    if CHROMIUM is None:
        pytest.skip("There is no Chromium: apt-get install chromium")
    folder = tmp_path_factory.mktemp("site")
    home, warehouse = folder / "dagster", LocalWarehouse(home=str(folder / "warehouse"))
    home.mkdir()
    (home / "dagster.yaml").write_text(SETTINGS)
    (folder / "workspace.yaml").write_text(WORKSPACE.format(file=Path(__file__).with_name("location.py")))
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", "workspace.yaml"]
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=kept | {"DAGSTER_HOME": str(home), "DW_ORCHESTRATION_HOME": warehouse.home},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(address))
        assert process.poll() is None, (folder / "dev.log").read_text()
        yield Site(address, home, warehouse, wait_until)
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        warehouse.stop()
        # what a shell runs in the background ignores the signal by which Dagster's processes end each other
        for left_over in psutil.wait_procs(family, timeout=30)[1]:
            left_over.kill()
        process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; Playwright's own is not downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(site: Site, browser: Browser) -> Page:
    """A window on the UI, after the dialog of the first visit."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page.goto(site.lineage())
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("button", name="Hide navigation").click()
    return page


@pytest.fixture(scope="module")
def camera(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Camera:
    """Writes into the folder that the environment names, as `make images` does, or else into a temporary one."""
    return Camera(page, Path(IMAGES) if IMAGES else tmp_path_factory.mktemp("images"), for_readers=bool(IMAGES))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number: int = listener.getsockname()[1]
    return number


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=60) as response:  # noqa: S310 - ours
            return bool(response.status == 200)
    except OSError:
        return False
