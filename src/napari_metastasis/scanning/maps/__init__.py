"""Maps on disk and in memory: stores, features, journal, and the blend of two maps."""
