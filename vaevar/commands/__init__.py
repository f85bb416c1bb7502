"""The command ``vaevar``; what a command adds to, and keeps of, what its configs say."""
