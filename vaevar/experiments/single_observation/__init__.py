"""The single-observation experiment: what each arm makes of one observation."""
