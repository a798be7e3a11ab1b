"""What the warehouse did by itself, as Dagster events."""
