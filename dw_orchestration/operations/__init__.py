"""What users can do to a project's sources and tables apart from syncing them, from the Dagster UI and from `dw`.

operation    one declaration per operation: its parameters, its function, its description
registry     all of them; `jobs` makes the jobs of the Dagster UI from it, `dw_orchestration.cli` the commands
project      the project that an operation changes: its client, and its tables by name
report       what an operation found or did, for people and for programs
confirmation what deletes data asks the user to repeat      secrets   values that are named, never written out
settings, cancelling, deletion, fields, sources, webhooks, listing, syncing, resync, takeover    the operations
"""
