"""The assimilation cycle."""
