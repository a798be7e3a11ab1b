"""Rows per day as a picture, where matplotlib is installed (the extra `charts`)."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from importlib.util import find_spec

TOP_TABLES = 8
OTHERS = "others"
# wide enough for thirty bars, small enough for the event log that keeps it: some 30 kB
_SIZE_IN = (9.0, 3.6)
_DPI = 90
_MAX_LABEL = 40

# a day, a table, and the rows synced
TableDay = tuple[date, str, int]


def rows_per_day_chart(rows: Sequence[TableDay], *, first: date, last: date) -> str | None:
    """A picture of the rows per day, stacked by table, as Markdown that Dagster's UI shows.

    Returns:
        None without matplotlib.
    """
    if find_spec("matplotlib") is None:
        return None
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    picture = base64.b64encode(_png(days, stacks(rows))).decode()
    return f"![Rows per day, by table](data:image/png;base64,{picture})"


def stacks(rows: Iterable[TableDay], *, top: int = TOP_TABLES) -> dict[str, Counter[date]]:
    """The rows of each day by table, the table with most rows first; those beyond the top ones are one, the last."""
    rows = [row for row in rows if row[2]]
    totals: Counter[str] = Counter()
    for _, table, count in rows:
        totals[table] += count
    shown = [table for table, _ in totals.most_common(top)]
    layers: dict[str, Counter[date]] = {table: Counter() for table in shown}
    for day, table, count in rows:
        # the name of a layer never looks like a table's: those begin with their source
        layers.setdefault(table if table in shown else OTHERS, Counter())[day] += count
    return layers


def _png(days: Sequence[date], layers: dict[str, Counter[date]]) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    # names are names: a `$` in one begins no formula
    with mpl.rc_context({"text.parse_math": False}):
        # without pyplot, which would keep every figure of the process
        figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        floor = [0] * len(days)
        for number, (table, rows) in enumerate(layers.items()):
            heights = [rows[day] for day in days]
            color = "0.88" if table == OTHERS else f"C{number}"
            label = table if len(table) <= _MAX_LABEL else f"{table[: _MAX_LABEL - 1]}…"
            axes.bar([f"{day:%d %b}" for day in days], heights, bottom=floor, color=color, label=label)
            floor = [below + height for below, height in zip(floor, heights, strict=True)]
        axes.set_title("Rows synced per day (UTC)", loc="left", fontsize="medium")
        axes.set_xticks(range(0, len(days), 5))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        figure.legend(loc="outside right upper", fontsize="small", frameon=False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    return picture.getvalue()
