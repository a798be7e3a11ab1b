"""PostHog's webhook at a source's provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from dw_orchestration.operations.operation import SECRETS, Operation, SourceParams
from dw_orchestration.operations.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dw_orchestration.operations.project import Project
    from dw_orchestration.tables.selection import NamedSource

COLUMNS = ("source", "exists", "webhook_url", "result", "note")


def show_webhook(project: Project, source: str) -> Report:
    """Whether a source's webhook exists, and where.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: PostHog is unreachable; older servers refuse API keys here.
    """
    named = project.tables().source(source)
    info = project.client.webhook_info(named.id)
    said = "has a webhook" if info.exists else "has no webhook"
    return _report(named, f"{named.name} {said}.", exists=info.exists, url=info.webhook_url, note=info.problem)


def create_webhook(project: Project, source: str, *, inputs: Mapping[str, object] | None = None) -> Report:
    """Register a webhook, unless there is one: a second webhook would deliver every event twice.

    Args:
        project: The source's project.
        source: The source, by name, prefix or id.
        inputs: What the provider needs, a signing secret for example; no value of it comes into the report.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: The source type has no webhooks, or PostHog is unreachable.
    """
    named = project.tables().source(source)
    info = project.client.webhook_info(named.id)
    if info.exists:
        summary = f"{named.name} already has a webhook: nothing was changed."
        return _report(named, summary, exists=True, url=info.webhook_url, result="unchanged")
    made = project.client.create_webhook(named.id, inputs=inputs)
    if not made.success:
        summary = f"The provider of {named.name} refused the webhook: set it up there by hand, with this address."
        return _report(named, summary, exists=False, url=made.webhook_url, result="failed", note=made.error)
    summary = f"{named.name} has a webhook now. {_pending(made.pending_inputs)}".strip()
    return _report(named, summary, exists=True, url=made.webhook_url, result="created")


def delete_webhook(project: Project, source: str) -> Report:
    """Remove the webhook of a source.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: Tables still use it, the source type has no webhooks, or PostHog is unreachable.
    """
    named = project.tables().source(source)
    gone = project.client.delete_webhook(named.id)
    if not gone.success:
        summary = f"The webhook of {named.name} could not be removed."
        return _report(named, summary, exists=True, result="failed", note=gone.error)
    left = gone.external_deleted is False
    note = "PostHog no longer listens; the provider still has it: remove it there." if left else gone.error
    return _report(named, f"{named.name} has no webhook any more.", exists=False, result="deleted", note=note)


def _pending(inputs: Sequence[str] | None) -> str:
    return f"Still to be entered in PostHog: {', '.join(inputs)}." if inputs else ""


def _report(
    source: NamedSource,
    summary: str,
    *,
    exists: bool,
    url: str | None = None,
    result: str | None = None,
    note: str | None = None,
) -> Report:
    row = {
        "source": source.name,
        "id": source.id,
        "exists": exists,
        "webhook_url": url,
        "result": result,
        "note": note,
    }
    return Report(summary=summary, rows=[row], columns=COLUMNS, failed=result == "failed")


class CreateWebhookParams(SourceParams):
    """A new webhook."""

    inputs: dict[str, Any] | None = Field(
        default=None, description=f"What some providers need, such as a signing secret. {SECRETS}"
    )


SHOW_WEBHOOK = Operation(
    name="show_webhook",
    command="webhook show",
    params=SourceParams,
    run=show_webhook,
    description="Show whether a source has a webhook, through which its provider reports changes to PostHog.",
    examples=("webhook show stripe",),
)
CREATE_WEBHOOK = Operation(
    name="create_webhook",
    command="webhook create",
    params=CreateWebhookParams,
    run=create_webhook,
    description="Register the webhook of a source at its provider, unless there is one.",
    examples=("webhook create stripe", "webhook create stripe --inputs secret.json"),
)
DELETE_WEBHOOK = Operation(
    name="delete_webhook",
    command="webhook delete",
    params=SourceParams,
    run=delete_webhook,
    description="Remove the webhook of a source. No table may use it any more.",
    examples=("webhook delete stripe",),
)
