"""What assets, sensors and schedules are given to reach the warehouse."""
