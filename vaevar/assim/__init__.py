"""How an analysis is made, cycled and judged."""
