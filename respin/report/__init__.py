"""Rendering for people and for programs: the only place of respin that prints.

Results go to standard output, progress and messages to standard error.
"""
