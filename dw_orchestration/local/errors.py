"""What the embedded warehouse refuses, as PostHog does."""

from __future__ import annotations


class RuleError(Exception):
    """A change that PostHog's rules refuse; answered as a validation error, of the field `attr` if there is one."""

    def __init__(self, detail: str, *, attr: str | None = None) -> None:
        super().__init__(detail)
        self.attr = attr


class RefusedError(Exception):
    """A call that cannot be carried out; answered as a bare message."""
