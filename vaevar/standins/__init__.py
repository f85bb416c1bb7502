"""Stand-ins without skill: made-up weather, a climate, and a forecaster of FengWu's size."""
