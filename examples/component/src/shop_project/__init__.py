"""A `dg` project on the embedded warehouse's shop."""
