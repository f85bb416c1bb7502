"""Models of background errors, and forecasters."""
