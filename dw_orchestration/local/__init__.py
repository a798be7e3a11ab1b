"""The embedded warehouse: the same API over HTTP, with real syncs into DuckDB."""
