"""Network blocks on the sphere."""
