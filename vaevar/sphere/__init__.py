"""Grids, interpolation and spherical harmonics."""
