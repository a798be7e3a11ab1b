"""The API's enumerations. They are open: a value that this version does not know is kept and shown."""

from enum import StrEnum
from typing import Self


class OpenEnum(StrEnum):
    """A string enumeration that keeps values it does not know.

    PostHog adds values from time to time. An unknown value becomes its own member, with the text that the server sent:
    it is equal to that text, and identical to no declared member.

    Example:
        >>> JobStatus("Hibernating").is_known
        False
        >>> str(JobStatus("Hibernating"))
        'Hibernating'
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        if (spelled := cls._other_spellings().get(value)) is not None:
            return cls(spelled)
        member = str.__new__(cls, value)
        member._name_ = "UNKNOWN"
        member._value_ = value
        return member

    @classmethod
    def _other_spellings(cls) -> dict[str, str]:
        """Other spellings of declared values, for servers that return the stored form."""
        return {}

    @property
    def is_known(self) -> bool:
        """Whether this version of the package declares the value."""
        return self._name_ != "UNKNOWN"


class SyncStatus(OpenEnum):
    """The status of a schema or a source, as the API returns it."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    PAUSED = "Paused"
    CANCELLED = "Cancelled"
    BILLING_LIMIT = "Billing limits"
    BILLING_LIMIT_TOO_LOW = "Billing limits too low"

    @classmethod
    def _other_spellings(cls) -> dict[str, str]:
        return {
            "Error": "Failed",
            "BillingLimitReached": "Billing limits",
            "BillingLimitTooLow": "Billing limits too low",
            "Billing limit too low": "Billing limits too low",
        }


class JobStatus(OpenEnum):
    """The status of a job. An unknown status is not terminal: a wait continues until its deadline."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    BILLING_LIMIT = "Billing limits"
    BILLING_LIMIT_TOO_LOW = "Billing limit too low"

    @classmethod
    def _other_spellings(cls) -> dict[str, str]:
        return {
            "BillingLimitReached": "Billing limits",
            "BillingLimitTooLow": "Billing limit too low",
            "Billing limits too low": "Billing limit too low",
        }

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended; False for a value that this version does not know."""
        return self.is_known and self is not JobStatus.RUNNING


class SyncType(OpenEnum):
    """How PostHog imports a schema's rows."""

    FULL_REFRESH = "full_refresh"
    INCREMENTAL = "incremental"
    APPEND = "append"
    WEBHOOK = "webhook"
    CDC = "cdc"
    XMIN = "xmin"


class SyncFrequency(OpenEnum):
    """How often PostHog itself syncs a schema."""

    NEVER = "never"
    ONE_MINUTE = "1min"
    FIVE_MINUTES = "5min"
    FIFTEEN_MINUTES = "15min"
    THIRTY_MINUTES = "30min"
    ONE_HOUR = "1hour"
    SIX_HOURS = "6hour"
    TWELVE_HOURS = "12hour"
    ONE_DAY = "24hour"
    SEVEN_DAYS = "7day"
    THIRTY_DAYS = "30day"


class IncrementalFieldType(OpenEnum):
    """The type of the column that an incremental sync uses as its cursor."""

    INTEGER = "integer"
    NUMERIC = "numeric"
    DATETIME = "datetime"
    DATE = "date"
    TIMESTAMP = "timestamp"
    OBJECT_ID = "objectid"
    XID = "xid"


class CdcTableMode(OpenEnum):
    """Which tables a change-data-capture sync keeps."""

    CONSOLIDATED = "consolidated"
    CDC_ONLY = "cdc_only"
    BOTH = "both"


class IncrementalSyncBlock(OpenEnum):
    """Why PostHog disabled a table that it syncs incrementally."""

    MISSING_PRIMARY_KEY = "missing_primary_key"
    DUPLICATE_PRIMARY_KEY = "duplicate_primary_key"


class LogLevel(OpenEnum):
    """The level of a log line of a sync."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"

    @classmethod
    def _other_spellings(cls) -> dict[str, str]:
        in_lower_case = {name.lower(): name for name in ("DEBUG", "INFO", "WARN", "ERROR")}
        return in_lower_case | {"WARNING": "WARN", "warning": "WARN"}


class AccessMethod(OpenEnum):
    """Whether PostHog imports a source's rows or queries them in place."""

    WAREHOUSE = "warehouse"
    DIRECT = "direct"


class CancelOutcome(StrEnum):
    """The result of a request to cancel a schema's job."""

    REQUESTED = "requested"
    NOTHING_RUNNING = "nothing_running"
