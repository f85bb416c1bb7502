"""Control transforms D."""
