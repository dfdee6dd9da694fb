"""Training runs on the slides of a cohort, step by step."""
