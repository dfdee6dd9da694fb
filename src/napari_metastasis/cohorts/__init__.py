"""Slides with their annotations and splits, and labelled patches: what is trained and measured on."""
