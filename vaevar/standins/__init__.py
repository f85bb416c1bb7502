"""Stand-ins without skill: synthetic weather, a climate, and a forecaster of FengWu's size."""
