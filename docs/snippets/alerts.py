"""Alerts: each failed run in Slack, by e-mail and to a webhook; each failed sync that PostHog started in Slack."""

# region start
import os
from html import escape

import dagster as dg
import httpx
from dagster_slack import SlackResource, make_slack_on_run_failure_sensor

CHANNEL = "#data"
RUNNING = dg.DefaultSensorStatus.RUNNING
# endregion


# region runs
def why(context: dg.RunFailureSensorContext) -> str:
    """Why the run failed: a line for each table that was not synced, with PostHog's own error."""
    failures = [event.step_failure_data.user_failure_data for event in context.get_step_failure_events()]
    text = "\n".join(failure.description or "" for failure in failures if failure)
    # Slack refuses more than 3,000 characters
    return (text or context.failure_event.message or "")[:2900]


slack_on_failed_runs = make_slack_on_run_failure_sensor(
    CHANNEL,
    os.getenv("SLACK_BOT_TOKEN", ""),
    text_fn=why,
    name="slack_on_failed_runs",
    webserver_base_url="https://dagster.example.com",
    default_status=RUNNING,
)
# endregion


# region syncs
@dg.sensor(minimum_interval_seconds=60, default_status=RUNNING)
def slack_on_failed_syncs(context: dg.SensorEvaluationContext, slack: SlackResource) -> None:
    """Reports each table whose sync failed outside of a run. The first tick reports nothing: it marks the beginning."""
    repository = context.repository_def
    checks = repository.asset_graph.asset_check_keys if repository else ()
    newest = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [key for key in checks if key.name == "sync_succeeded"]
    ).values()
    # what a run has evaluated is reported with the run
    unreported = [each for each in newest if not each.run_id and context.cursor and each.id > int(context.cursor)]
    failed = [each.evaluation for each in unreported if each.evaluation and not each.evaluation.passed]
    if failed:
        lines = [f"{each.asset_key.to_user_string()}: {each.description}" for each in failed]
        slack.get_client().chat_postMessage(channel=CHANNEL, text="\n".join(lines))
    context.update_cursor(str(max((each.id for each in newest), default=0)))


# endregion
# region mail
mail_on_failed_runs = dg.make_email_on_run_failure_sensor(
    email_from="dagster@example.com",
    email_password=os.getenv("SMTP_PASSWORD", ""),
    email_to=["data@example.com"],
    email_subject_fn=lambda context: f"{context.dagster_run.job_name} failed",
    email_body_fn=lambda context: f"<pre>{escape(why(context))}</pre>",
    smtp_host="smtp.example.com",
    name="mail_on_failed_runs",
    default_status=RUNNING,
)
# endregion


# region webhook
@dg.run_failure_sensor(default_status=RUNNING)
def webhook_on_failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Posts each failed run, with the reason for each table."""
    body = {"job": context.dagster_run.job_name, "run": context.dagster_run.run_id, "why": why(context)}
    httpx.post(os.environ["ALERT_WEBHOOK"], json=body).raise_for_status()


# endregion
# region end
defs = dg.Definitions(
    sensors=[slack_on_failed_runs, slack_on_failed_syncs, mail_on_failed_runs, webhook_on_failed_runs],
    resources={"slack": SlackResource(token=dg.EnvVar("SLACK_BOT_TOKEN"))},
)
# endregion
