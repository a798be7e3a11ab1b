"""What a user may set when launching one of the maintenance jobs."""

from typing import Any, Literal

import dagster as dg
from pydantic import Field

TABLES = (
    "Tables by their names (`stripe.Customer`, `postgres_shop.public.orders`), asset keys or ids, or patterns of names"
    " (`stripe.*`) and of asset keys (`posthog/stripe/*`)."
)
SOURCE = "The source by its name (`stripe`, `postgres_shop`), its prefix or its id."
# Dagster shows the choices of a setting only if nothing is one of them.
UNCHANGED = "unchanged"
FIELDS = (
    'Where a value is a secret, name an environment variable of the code location instead: `{"env": "DB_PASSWORD"}`. A'
    " run's configuration is kept, so that a secret that is written out is refused."
)


class SourceConfig(dg.Config):
    """One source."""

    source: str = Field(description=SOURCE)


class TablesConfig(dg.Config):
    """Some tables."""

    tables: list[str] = Field(description=TABLES)


class TableConfig(dg.Config):
    """One table."""

    table: str = Field(description="The table by its name (`stripe.Customer`), its asset key or its id.")


class DeleteDataConfig(TablesConfig):
    """The tables whose rows are deleted."""

    confirm: list[str] = Field(
        default=[], description="The name of each of these tables once more, without patterns. Nothing is deleted else."
    )


class ResyncConfig(TablesConfig):
    """The tables that are dropped and brought again."""

    confirm: list[str] = Field(
        default=[],
        description="The name of each of these tables once more, without patterns. Nothing is resynced else.",
    )
    wait: bool = Field(
        default=True,
        description="Whether the run stays until the syncs have ended. If not, it ends once they have begun, and the"
        " job-status sensor reports how they end.",
    )


class SwitchConfig(TablesConfig):
    """Which tables are switched on or off."""

    should_sync: bool = Field(
        description="`true` switches them on, `false` off. PostHog syncs a table at once when it is switched on for the"
        " first time, and stops a running sync of one that is switched off."
    )


class SettingsConfig(TablesConfig):
    """New settings for tables; what is left out stays."""

    apply: bool = Field(default=False, description="`false` changes nothing, and shows what would change.")
    sync_frequency: Literal[
        "unchanged", "1min", "5min", "15min", "30min", "1hour", "6hour", "12hour", "24hour", "7day", "30day"
    ] = Field(default="unchanged", description="How often PostHog syncs them by itself.")
    sync_time_of_day: str | None = Field(
        default=None, description="`HH:MM`, in UTC, which the frequency counts from; `none` for PostHog's own choice."
    )
    sync_type: Literal["unchanged", "full_refresh", "incremental", "append", "webhook", "cdc", "xmin"] = Field(
        default="unchanged", description="How their rows are brought over."
    )
    incremental_field: str | None = Field(
        default=None, description="The column that an incremental or append sync follows; see the job `…_show_fields`."
    )
    incremental_field_type: Literal[
        "unchanged", "integer", "numeric", "datetime", "date", "timestamp", "objectid", "xid"
    ] = Field(
        default="unchanged",
        description="The type of that column. Without it, the source of the tables is asked, which takes a while.",
    )
    incremental_field_lookback_seconds: int | None = Field(
        default=None, description="How far an incremental sync goes back behind the last row that it brought."
    )
    primary_key_columns: list[str] | None = Field(
        default=None, description="The columns by which an incremental sync knows which row to replace."
    )


class CreateSourceConfig(dg.Config):
    """A new source."""

    source_type: str = Field(description="As PostHog spells it: `Postgres`, `Stripe`, …")
    payload: dict[str, Any] = Field(
        description="The fields of the connection, as PostHog has them, and `schemas`, the tables that are wanted:"
        f" `[{{name, should_sync, sync_type, …}}]`. {FIELDS}"
    )
    prefix: str | None = Field(
        default=None, description="Stands before every table's name and can never be changed; letters, digits and `_`."
    )
    description: str | None = Field(default=None, description="For people.")
    access_method: Literal["warehouse", "direct"] = Field(
        default="warehouse", description="`warehouse` imports the rows, `direct` queries them in place."
    )


class UpdateSourceConfig(SourceConfig):
    """Changes of a source."""

    description: str | None = Field(default=None, description="For people; an empty text clears it.")
    job_inputs: dict[str, Any] | None = Field(
        default=None,
        description=f"Fields of the connection that change; the others stay, secrets too. {FIELDS} A new host or tunnel"
        " needs the secrets again.",
    )


class DeleteSourceConfig(SourceConfig):
    """The source that is deleted."""

    confirm: str = Field(
        default="", description="The source's full name once more, such as `postgres_shop`. Nothing is deleted else."
    )


class WebhookConfig(SourceConfig):
    """What is done about a source's webhook."""

    action: Literal["show", "create", "delete"] = Field(
        default="show",
        description="`show` changes nothing. `create` registers it, unless there is one. `delete` removes it; tables"
        " must not use it any more.",
    )
    inputs: dict[str, Any] | None = Field(
        default=None, description=f"What some providers need for `create`, such as a signing secret. {FIELDS}"
    )
