"""What flows in: the embedded world, stores, background errors, observations, cycles."""
