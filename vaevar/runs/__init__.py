"""What concerns runs: where they write, what they were made of, who writes there now, what came before."""
