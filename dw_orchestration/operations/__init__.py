"""What can be done to a project's sources and tables other than syncing; the UI's jobs and `dw` share it.

catalogue   the sources and tables by the names that people use      secrets   values that are named, never written out
settings    how and when tables are synced: plan, then apply         settings_input   from what a user typed
cancelling  stop running syncs            deletion   a table's rows  fields    how a table could be synced
sources     create, change, delete, look for tables                  webhooks  PostHog's webhook at a provider
listing     what there is
jobs        the same as jobs in the Dagster UI: the only module here that knows Dagster
"""
