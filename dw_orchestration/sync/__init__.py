"""Trigger, adopt, follow and cancel the syncs of many tables."""
