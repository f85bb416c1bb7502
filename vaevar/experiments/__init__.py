"""Experiments that put the methods to use."""
