"""Data assimilation with AI weather models: VAE-Var and its rivals in one cycle."""

__version__ = "0.1.0"
