"""Every sync of a project, kept in DuckDB: rows per day and table, failures, durations."""
