"""The warehouse's own cadences as Dagster schedules."""
