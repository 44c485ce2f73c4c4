"""The database files of rpm's backends ndb (``Packages.db``, ``Index.db``) and bdb (``Packages``), read only.

What is covered of each stands in the modules. The third backend, sqlite, is read by Python's own module.
"""
