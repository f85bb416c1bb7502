"""VAE-Var with 3DVar's B inside: the VAE whose latent space is the control space of U."""
