"""Trigger, adopt, follow and cancel the syncs of many tables. Knows neither Dagster nor HTTP nor a real clock.

batch     SyncEngine: the loop over sources and triggers
watch     one source: when to look, what follows from a look, what to do when it fails
roster    many sources at once: their records from one list, which tells whose jobs to read
reader    what to read with how few requests        pace, gate, blindness   when
table     one table's way from its turn to its end
plan      what to do at its turn                    attempt                 which job a trigger caused
book      what was seen of its jobs                 outcome, verdict        what a job's end means
cancel    stop what the batch has started
settings, events, errors, classify, api, clock      what callers meet
"""
