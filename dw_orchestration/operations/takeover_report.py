"""What a takeover would do or did."""

from collections import Counter
from collections.abc import Sequence

from dw_orchestration.operations.report import Report, Row, counted
from dw_orchestration.operations.takeover import Change, Outcome
from dw_orchestration.operations.takeover_plan import TakeoverPlan


def report_of_plan(plan: TakeoverPlan) -> Report:
    """What a takeover would change, and what it would not."""
    known = [move.rows_saved_per_day for move in plan.moves if move.rows_saved_per_day is not None]
    saved = f", which saves about {sum(known):,.0f} rows a day" if known else ""
    summary = (
        f"Nothing is changed yet. {counted(len(plan.moves), 'table')} would move out of the way{saved};"
        f" {len(plan.left)} would stay as they are."
    )
    moves: list[Row] = [
        {
            "table": move.name,
            "now": move.now.describe(),
            "then": move.then.describe(),
            "next_own_sync": move.next_tick,
            "rows_saved_per_day": None if move.rows_saved_per_day is None else round(move.rows_saved_per_day),
            "why": None,
        }
        for move in plan.moves
    ]
    unknown = dict.fromkeys(("then", "next_own_sync", "rows_saved_per_day"))
    stays: list[Row] = [
        {"table": name, "now": "stays as it is", **unknown, "why": why} for name, why in plan.left.items()
    ]
    columns = ("table", "now", "then", "next_own_sync", "rows_saved_per_day", "why")
    return Report(summary=summary, rows=[*moves, *stays], columns=columns)


def report_of_outcomes(outcomes: Sequence[Outcome]) -> Report:
    """What was changed, and what was not."""
    counts = Counter(outcome.change for outcome in outcomes)
    listed = ", ".join(f"{counts[change]} {change}" for change in Change if counts[change])
    summary = f"{counted(len(outcomes), 'table')}: {listed}." if outcomes else "There was nothing to change."
    if counts[Change.FAILED]:
        summary += " What failed is as it was: do it again to complete it."
    else:
        summary += " Refresh the state of the definitions next, so that they show PostHog's settings as they are now."
    rows: list[Row] = [{"table": each.name, "became": str(each.change), "why": each.detail} for each in outcomes]
    return Report(summary=summary, rows=rows, columns=("table", "became", "why"), failed=bool(counts[Change.FAILED]))
