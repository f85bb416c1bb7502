"""Assimilation over a window of time: observations at their own times, and a forecaster between them."""
