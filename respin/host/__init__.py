"""An installed Node, read from its root directory: what it says it is made of, and whether its files agree."""
