"""What a user does and reads in Dagster's UI, in a real browser: it asks for roles and texts, never for places."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Collection

    from conftest import Camera, Site
    from playwright.sync_api import Locator, Page

ORDERS = ("posthog", "postgres", "shop", "orders")
TABLES = ("customers", "order_lines", "orders", "page_events", "products")
CHECKS = ("data_as_usual", "sync_succeeded")
# a plot of one point teaches nothing
RUNS_FOR_A_PLOT = 4
CHANGE = """ops:
  posthog_warehouse_change_settings_step:
    config:
      tables: ["postgres_shop.orders"]
      sync_frequency: 1hour
      dry_run: true
"""


def wait_for_success(site: Site, page: Page) -> str:
    """Wait until the run of a page has ended well, and show it; the run's id."""
    page.wait_for_url(re.compile("/runs/"))
    address = page.url
    run_id = address.partition("/runs/")[2].partition("?")[0]
    # the page of a run in progress is drawn so often that it slows the run
    page.goto("about:blank")
    site.wait_for_end(run_id)
    page.goto(address)
    expect(page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first).to_have_text("Success")
    return run_id


def materialize(site: Site, page: Page, button: str) -> str:
    """Press a button that materializes, and wait for the run's end; the run's id."""
    page.get_by_role("button", name=button).first.click()
    # the message that a run is launched has the link to it
    page.get_by_text("Launched run").wait_for()
    page.get_by_role("link", name="View", exact=True).last.click()
    return wait_for_success(site, page)


def numbers_of(site: Site, name: str) -> Collection[str]:
    """A number in the metadata of each materialization of the orders, as the UI writes it."""
    with site.instance() as instance:
        records = instance.fetch_materializations(dg.AssetKey(ORDERS), limit=50).records
    found = [record.asset_materialization for record in records]
    return {f"{each.metadata[name].value:,}" for each in found if each is not None and name in each.metadata}


@pytest.fixture(scope="module")
def run_id(site: Site, page: Page) -> str:
    """The run that materialized everything, launched from the lineage."""
    page.goto(site.lineage())
    return materialize(site, page, "Materialize all")


def test_a_run_of_everything_succeeds(site: Site, page: Page, run_id: str) -> None:
    """`Materialize all` ends green for each table, and the run's log ends with its success."""
    with site.instance() as instance:
        run = instance.get_run_by_id(run_id)
        events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    keys = {event.asset_key.path[-1] for record in events if (event := record.dagster_event) and event.asset_key}

    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert {*TABLES, "revenue_by_day", "sync_history"} == keys
    page.goto(f"{site.address}/runs/{run_id}")
    expect(page.get_by_text("RUN_SUCCESS", exact=True)).to_be_visible()


def test_lineage_leads_from_the_source_to_the_report(site: Site, page: Page, run_id: str, camera: Camera) -> None:
    """The lineage shows each table at its source and in the warehouse, and the report downstream."""
    camera.visit(site.lineage("postgres_shop_source", "postgres_shop", "reports"), width=1500, height=1100)

    for table in TABLES:
        expect(page.get_by_text(table, exact=True)).to_have_count(2)
    expect(page.get_by_text("revenue_by_day", exact=True)).to_have_count(1)
    if camera.for_readers:
        # the schedule syncs tables meanwhile
        expect(page.get_by_text("Materialized", exact=True)).to_have_count(len(TABLES) + 1)
    # the first row of the graph lies half under its toolbar
    page.mouse.move(1300, 900)
    page.mouse.down()
    page.mouse.move(1300, 1010, steps=5)
    page.mouse.up()
    camera.take("lineage")


def test_assets_page_has_the_syncs_numbers(site: Site, page: Page, run_id: str, camera: Camera) -> None:
    """The page of a table has its rows and its columns, and plots numbers over time."""
    for _ in range(RUNS_FOR_A_PLOT if camera.for_readers else 0):
        page.goto(site.asset(*ORDERS))
        materialize(site, page, "Materialize")
    camera.visit(site.asset(*ORDERS), height=1300)
    row = page.get_by_role("row")

    expect(row.filter(has_text="posthog/rows_synced")).to_contain_text(re.compile(r"\d$"))
    expect(row.filter(has_text="posthog/triggered_by")).to_contain_text(re.compile("dagster|adopted|posthog"))
    expect(row.filter(has_text="placed_at")).to_contain_text("datetime")
    shown = page.get_by_text("Row count", exact=True).locator("..")
    expect(shown).to_have_text(re.compile(r"\d$"))
    assert shown.inner_text().split()[-1] in numbers_of(site, "dagster/row_count")
    page.get_by_text("Plots", exact=True).click()
    for plot in ("dagster/row_count", "posthog/duration_s", "posthog/rows_synced"):
        expect(page.get_by_text(plot, exact=True)).to_be_visible()
    expect(page.get_by_role("img").and_(page.locator("canvas")).first).to_be_visible()
    camera.take("asset")


def becomes_visible(found: Locator) -> bool:
    """Whether something is on the page within 15 seconds."""
    try:
        expect(found).to_be_visible(timeout=15_000)
    except AssertionError:
        return False
    return True


def test_checks_are_green_and_say_why(site: Site, page: Page, run_id: str, camera: Camera) -> None:
    """Each of a table's checks has its result, and a check's page names the table that it judges."""
    camera.visit(f"{site.asset(*ORDERS, view='checks')}&checkDetail=sync_succeeded", height=1000)

    for check in CHECKS:
        expect(page.get_by_text(check, exact=True).first).to_be_visible()
    green = page.get_by_text("Succeeded", exact=True).nth(len(CHECKS) - 1)
    if not becomes_visible(green):
        # the page was loaded between the result of a later sync and its checks
        page.reload()
    expect(green).to_be_visible()
    expect(page.get_by_text("postgres_shop.orders: Completed", exact=True)).to_be_visible()
    camera.take("checks")


def test_history_counts_the_syncs_of_each_table(site: Site, page: Page, run_id: str, camera: Camera) -> None:
    """The sync history's page has a row for each table."""
    camera.visit(site.asset("posthog_warehouse", "sync_history"))
    for table in TABLES:
        expect(page.get_by_role("cell", name=table, exact=True)).to_be_visible()
    camera.take("sync-history")


def test_schedules_and_sensors_are_listed(site: Site, page: Page, run_id: str, camera: Camera) -> None:
    """The page of automations has the schedule of PostHog's cadence, and the sensors, with what they are."""
    camera.visit(f"{site.address}/automation", height=560)

    for name in ("postgres_shop_every_5min", "posthog_warehouse_job_status", "posthog_warehouse_drift"):
        expect(page.get_by_role("link", name=name)).to_be_visible()
    camera.take("schedules")
    page.get_by_role("link", name="postgres_shop_every_5min").click()
    expect(page.get_by_text("Every 5 minutes from 00:00 UTC, as PostHog does: 5 tables.")).to_be_visible()


def test_maintenance_job_shows_what_it_would_change(site: Site, page: Page, camera: Camera) -> None:
    """A job launched with its config from the launchpad changes nothing in a dry run, and shows what it would."""
    camera.visit(f"{site.address}/jobs")
    page.get_by_role("link", name="posthog_warehouse_change_settings").click()
    page.get_by_text("Launchpad", exact=True).click()
    page.locator(".CodeMirror").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(CHANGE)
    page.get_by_role("button", name="Launch run").click()
    wait_for_success(site, page)

    expect(page.get_by_text("Dry run: nothing is changed. 1 setting of 1 table would change.").first).to_be_visible()
    page.get_by_text("[Show Markdown]").click()
    cells = page.get_by_role("dialog").get_by_role("cell")
    expect(cells).to_have_text(["postgres_shop.orders", "sync_frequency", "5min", "1hour", "would change", ""])
    camera.take("maintenance")
    page.get_by_role("button", name="Close").click()
    with site.warehouse.client() as client:
        (orders,) = (each for each in client.list_schemas() if each.name == "orders")
    assert orders.sync_frequency == "5min"
