"""Interpolation methods."""
