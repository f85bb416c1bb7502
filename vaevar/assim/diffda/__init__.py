"""DiffDA: assimilation by conditional diffusion."""
