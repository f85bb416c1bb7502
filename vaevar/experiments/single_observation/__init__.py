"""The single-observation experiment."""
