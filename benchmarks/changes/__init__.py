"""Small changes of meaning in the files, settings and arguments that a cycle and a fit take."""
