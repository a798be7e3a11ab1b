"""What reaches a warehouse: the Dagster resources, the embedded warehouse, and the refresh of the state."""
