"""The conditional diffusion model of DiffDA."""
