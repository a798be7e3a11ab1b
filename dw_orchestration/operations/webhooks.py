"""PostHog's webhook at a source's provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dw_orchestration.operations.report import Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dw_orchestration.operations.catalogue import NamedSource, Project

COLUMNS = ("source", "exists", "webhook_url", "result", "note")


def show_webhook(project: Project, name: str) -> Report:
    """Whether a source's webhook exists, and where.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: PostHog cannot be asked; older servers refuse API keys here.
    """
    source = project.catalogue().source(name)
    info = project.client.webhook_info(source.id)
    said = "has a webhook" if info.exists else "has no webhook"
    return _report(source, f"{source.name} {said}.", exists=info.exists, url=info.webhook_url, note=info.error)


def create_webhook(project: Project, name: str, *, inputs: Mapping[str, object] | None = None) -> Report:
    """Register a webhook, unless there is one: a second one would bring every event twice.

    Args:
        project: The source's project.
        name: The source.
        inputs: What the provider needs, a signing secret for example; no value of it comes into the report.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: The source type has no webhooks, or PostHog cannot be asked.
    """
    source = project.catalogue().source(name)
    info = project.client.webhook_info(source.id)
    if info.exists:
        summary = f"{source.name} has a webhook already: nothing was done."
        return _report(source, summary, exists=True, url=info.webhook_url, result="as it was")
    made = project.client.create_webhook(source.id, inputs=inputs)
    if not made.success:
        summary = f"The provider of {source.name} refused the webhook: set it up there by hand, with this address."
        return _report(source, summary, exists=False, url=made.webhook_url, result="failed", note=made.error)
    summary = f"{source.name} has a webhook now. {_pending(made.pending_inputs)}".strip()
    return _report(source, summary, exists=True, url=made.webhook_url, result="created")


def delete_webhook(project: Project, name: str) -> Report:
    """Remove the webhook of a source.

    Raises:
        UnknownNameError: The name is that of no source, or of several.
        PostHogError: Tables still use it, the source type has no webhooks, or PostHog cannot be asked.
    """
    source = project.catalogue().source(name)
    gone = project.client.delete_webhook(source.id)
    if not gone.success:
        summary = f"The webhook of {source.name} could not be removed."
        return _report(source, summary, exists=True, result="failed", note=gone.error)
    left = gone.external_deleted is False
    note = "PostHog no longer listens; the provider still has it: remove it there." if left else gone.error
    return _report(source, f"{source.name} has no webhook any more.", exists=False, result="deleted", note=note)


def _pending(inputs: Sequence[str]) -> str:
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
