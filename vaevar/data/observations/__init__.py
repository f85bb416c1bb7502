"""Observations: points, networks, errors, the observation operator H, simulation."""
