"""What every fit shares: optimisation, checkpoints, exported weights."""
