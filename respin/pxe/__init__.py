"""Starting a Node from a network: what a server needs of an ISO, and the boot loaders' configurations for it."""
