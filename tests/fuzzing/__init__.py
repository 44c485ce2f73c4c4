"""Fuzzing the readers of root images: valid images, damaged in ways that mean something, read in a child with limits.

``tests/fuzz`` runs it. A format (:mod:`.formats`) brings a seed image, what can be spoiled in it, and what reads it;
:mod:`.campaign` runs the cases and judges them.
"""
