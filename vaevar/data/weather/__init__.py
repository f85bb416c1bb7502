"""States of the atmosphere: stores of any WeatherBench 2 layout, and the embedded world."""
