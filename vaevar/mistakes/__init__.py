"""What is said of a user's mistakes: one line for each, with the setting it lies in and what to do."""
