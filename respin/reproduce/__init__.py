"""Building a respun ISO once more from what its statement names, and comparing the two byte by byte."""
