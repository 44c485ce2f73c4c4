"""Parsers and writers of file formats. They know nothing of Nodes or plugins and don't import each other."""
