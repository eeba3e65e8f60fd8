"""Checkpoints in the official layout, and the whole way from prompt to samples."""
