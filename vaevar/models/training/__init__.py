"""Optimisation, weight files and the export of weights, for every fit."""
