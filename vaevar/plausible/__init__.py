"""What the atmosphere can be: the one place where fields and numbers from outside are judged."""
