"""States of the atmosphere: stores in any WeatherBench 2 layout, and the embedded world."""
