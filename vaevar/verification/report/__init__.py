"""The report of a run: one HTML file with its table, curves, maps and statistics."""
