"""Tables of the warehouse as Dagster assets."""
