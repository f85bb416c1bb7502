"""What is done with the package from Python: runs, their results, and what the repository ships."""
