"""The package's version, apart from the rest so that the build reads it without importing anything."""

__version__ = "0.1.0"
