"""The sync engine: triggers, adopts, follows and cancels the syncs of many tables.

Imports neither Dagster nor HTTP, and reads no real clock.

engine        SyncEngine: the loop that polls sources and triggers tables, whichever is due first
source        SourcePoller: polls one source; SourceListPoller: one list for many sources
table_sync    TableSync: the state machine of one table, with its transition table
decide        what to do for a table when its turn comes, as a pure function
jobs          JobHistory: the jobs of a table; JobReader: reads them with few requests
polling       when the next request is sent, with the theory at the top
cancel        cancels what a run has started
settings      SyncSettings and TableRequest: what callers ask for
events        what the engine reports while it runs
errors        the outcomes, and an error class and text for each way to fail
clock         the clocks, and the `Now` that pollers hand to their tables

The rule of the folder: everything that affects a table's state is in `table_sync`, and everything that delays a request
is in `polling`.
"""
