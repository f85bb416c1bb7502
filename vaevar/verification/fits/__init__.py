"""The report of a fit: one HTML file with its losses, and what the model makes of held-out samples."""
