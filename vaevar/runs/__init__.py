"""What concerns runs: where they write, what they were made of, and how they end."""
