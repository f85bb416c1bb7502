"""What a model shows of itself on samples that it has not learnt from, in numbers."""
