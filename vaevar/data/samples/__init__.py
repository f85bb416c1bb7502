"""Samples that models learn from: stores of background errors, how they are made and read."""
