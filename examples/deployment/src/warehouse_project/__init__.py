"""A `dg` project for several machines."""
