"""Charts of a cycle in loggers: of each arm, with its settings and final scores."""
