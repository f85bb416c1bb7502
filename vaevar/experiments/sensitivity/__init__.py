"""The sensitivity experiment: where a forecast's error comes from, and what each observation did to it."""
