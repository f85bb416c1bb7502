"""The VAE of background errors."""
