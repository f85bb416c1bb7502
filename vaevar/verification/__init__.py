"""Scores, tables, figures and dashboards."""
