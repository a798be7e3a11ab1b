"""What a takeover would do or did, as a table that people read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dw_orchestration.schedules.takeover import Change, Outcome
from dw_orchestration.schedules.takeover_plan import TakeoverPlan


@dataclass(frozen=True, kw_only=True)
class TakeoverReport:
    """A summary in a sentence or two, a table in Markdown, and whether a table failed."""

    summary: str
    table: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.summary}\n\n{self.table}"


def report_of_plan(plan: TakeoverPlan) -> TakeoverReport:
    """What a takeover would change, and what it would not."""
    known = [move.rows_saved_per_day for move in plan.moves if move.rows_saved_per_day is not None]
    saved = f", which saves about {sum(known):,.0f} rows a day" if known else ""
    summary = (
        f"Nothing is changed yet. {_tables(len(plan.moves))} would move out of the way{saved};"
        f" {len(plan.left)} would stay as they are."
    )
    moves = [
        (
            move.name,
            move.now.describe(),
            move.then.describe(),
            f"{move.next_tick:%Y-%m-%d %H:%M} UTC",
            "unknown" if move.rows_saved_per_day is None else f"{move.rows_saved_per_day:,.0f}",
        )
        for move in plan.moves
    ]
    stays = [(name, "stays as it is", why, "", "") for name, why in plan.left.items()]
    head = ("table", "PostHog syncs it now", "and would", "PostHog's next own sync", "rows a day saved")
    return TakeoverReport(summary=summary, table=_markdown(head, [*moves, *stays]))


def report_of_outcomes(outcomes: Sequence[Outcome]) -> TakeoverReport:
    """What was changed, and what was not."""
    counts = Counter(outcome.change for outcome in outcomes)
    counted = ", ".join(f"{counts[change]} {change}" for change in Change if counts[change])
    summary = f"{_tables(len(outcomes))}: {counted}." if outcomes else "There was nothing to change."
    if counts[Change.FAILED]:
        summary += " What failed is as it was: do it again to complete it."
    else:
        summary += " Refresh the state of the definitions next, so that they show PostHog's settings as they are now."
    rows = [(outcome.name, str(outcome.change), outcome.detail) for outcome in outcomes]
    return TakeoverReport(
        summary=summary, table=_markdown(("table", "became", "why"), rows), failed=bool(counts[Change.FAILED])
    )


def _tables(count: int) -> str:
    return f"{count} table{'' if count == 1 else 's'}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
