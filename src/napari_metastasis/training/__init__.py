"""Augmentation and the training loop."""
