"""Scores, consistency diagnostics, forecasts from analyses, maps and dashboards."""
