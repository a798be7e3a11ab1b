"""What every process loads."""
