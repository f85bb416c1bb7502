"""Samples that models learn from: background errors, how they are made, kept and read."""
