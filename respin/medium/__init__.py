"""What a respin changes on the ISO besides the root image: derived from the vendor's ISO and what is declared.

``build`` writes what these modules compute, ``verify`` computes it again and compares byte by byte.
"""
