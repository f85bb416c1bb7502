"""Weather, observations of it, training samples, and the times of analyses."""
