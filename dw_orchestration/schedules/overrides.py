"""Schedules of the user's own in place of PostHog's cadence: any cron, in any time zone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import dagster as dg
from pydantic import ConfigDict, Field

from dw_orchestration.assets import keys
from dw_orchestration.assets.spec import TableAsset
from dw_orchestration.assets.tables import Table
from dw_orchestration.tables.errors import SetupError
from dw_orchestration.tables.names import snake

# Each mark has a word of its own, so that different crons never get the same name.
_CRON_WORDS = {"*": "any", ",": "and", "-": "to", "/": "by", "#": "nth", "?": "q", "@": "at", " ": "_"}
# `Etc/GMT+3` and `Etc/GMT-3` are two zones; the other hyphens stand between words
_SIGNED = re.compile(r"([+-])(?=\d)")
_SIGN_WORDS = {"+": "plus_", "-": "minus_"}
_ANY_CRON = "0 0 * * *"


@dataclass(frozen=True)
class Timetable:
    """A cron and the time zone that it is meant in."""

    cron: str
    timezone: str

    def slug(self) -> str:
        """For names, such as `cron_30_7_any_any_1to5_europe_berlin`; different timetables have different ones."""
        marks = "".join(_CRON_WORDS.get(mark, mark) for mark in self.cron.lower())
        zone = snake(_SIGNED.sub(lambda sign: f"_{_SIGN_WORDS[sign[1]]}", self.timezone).lower())
        return f"cron_{marks}_{zone}"

    def problems(self) -> list[str]:
        """Why Dagster could not run by it."""
        checks = [
            (
                f"{self.cron!r} is no cron that Dagster takes: give minute, hour, day, month and weekday.",
                _is_taken(self.cron, "UTC"),
            ),
            (
                f"{self.timezone!r} is no time zone: give one such as UTC or Europe/Berlin.",
                bool(self.timezone) and _is_taken(_ANY_CRON, self.timezone),
            ),
        ]
        return [problem for problem, is_right in checks if not is_right]


class ScheduleOverride(dg.Model, dg.Resolvable):
    """When Dagster syncs some tables, in place of PostHog's cadence: on weekdays for example, which PostHog can't.

    With `ensure`, PostHog keeps syncing these tables by itself, too.

    Example:
        ```yaml
        overrides:
          - tables: ["stripe.*", "postgres_shop.orders"]
            cron: "30 7 * * mon-fri"
            timezone: Europe/Berlin
        ```
    """

    model_config = ConfigDict(frozen=True)

    tables: Sequence[str] = Field(
        min_length=1,
        description="Patterns with `*` and `?`; upper and lower case are alike. A pattern with a `/` is compared with"
        " the asset key (`posthog/stripe/*`), one without with `<source type>[_<prefix>].<table in PostHog>`"
        " (`stripe.*`, `postgres_shop.public.orders`, `*.customers`). Where several overrides name a table, the last"
        " one counts.",
    )
    cron: str = Field(description="Minute, hour, day of the month, month, weekday: `30 7 * * mon-fri`.")
    timezone: str = Field(default="UTC", description="The time zone that the cron is meant in: `Europe/Berlin`.")

    @property
    def timetable(self) -> Timetable:
        """The cron in its zone, with normalized spaces."""
        return Timetable(cron=" ".join(self.cron.split()), timezone=self.timezone)


def overridden(assets: Sequence[TableAsset], overrides: Sequence[ScheduleOverride]) -> dict[dg.AssetKey, Timetable]:
    """The tables that have a timetable of their own.

    Raises:
        SetupError: An override has an impossible cron or time zone, or names no table; all of them are in the text.
    """
    if problems := [problem for override in overrides for problem in _problems(override, assets)]:
        raise SetupError(f"The schedule overrides cannot be used. {' '.join(problems)}")
    return {
        asset.key: override.timetable
        for override in overrides
        for asset in assets
        if is_selected(asset, override.tables)
    }


def selected(assets: Sequence[TableAsset], patterns: Sequence[str]) -> list[TableAsset]:
    """The tables that the patterns name; no pattern means all.

    Raises:
        SetupError: A pattern names no table.
    """
    if unused := _unused(assets, patterns):
        raise SetupError(f"No table is named {', '.join(map(repr, unused))}. {_known(assets)}")
    return [asset for asset in assets if not patterns or is_selected(asset, patterns)]


def is_selected(asset: TableAsset, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns names the table, as `ScheduleOverride.tables` says."""
    names = {True: asset.key.to_user_string().lower(), False: table_name(asset.table).lower()}
    return any(fnmatchcase(names["/" in pattern], pattern.lower()) for pattern in patterns)


def table_name(table: Table) -> str:
    """What a user types for a table: `<source type>[_<prefix>].<table in PostHog>`."""
    return keys.table_name(table.source, table.schema)


def _problems(override: ScheduleOverride, assets: Sequence[TableAsset]) -> list[str]:
    problems = override.timetable.problems()
    if not any(is_selected(asset, override.tables) for asset in assets):
        problems.append(f"No table is named {', '.join(map(repr, override.tables))}. {_known(assets)}")
    return problems


def _unused(assets: Sequence[TableAsset], patterns: Sequence[str]) -> list[str]:
    return [pattern for pattern in patterns if not any(is_selected(asset, [pattern]) for asset in assets)]


def _known(assets: Sequence[TableAsset]) -> str:
    names = sorted(table_name(asset.table) for asset in assets)
    shown, more = names[:5], len(names) - 5
    return f"There are {', '.join(shown) or 'none'}{f' and {more} more' if more > 0 else ''}."


def _is_taken(cron: str, timezone: str) -> bool:
    """Dagster's own word, from a schedule that is thrown away."""
    try:
        dg.ScheduleDefinition(name="probe", job_name="probe", cron_schedule=cron, execution_timezone=timezone)
    except dg.DagsterInvalidDefinitionError:
        return False
    return True
