"""The conditional VAE of background errors."""
