"""respin: add signed plugins to a vendor's hypervisor Node ISO, and let anyone prove what was added.

The public entry points are the functions of :mod:`respin.build`, :mod:`respin.verify` and
:mod:`respin.inspect`; the command line in :mod:`respin.cli` only parses, calls one of them and renders.
"""

__version__ = "0.1.0"
