"""The Node's root file system: a copy-on-write view of the nested image, the sandboxed RPM transaction, the delta.

* :mod:`respin.root.install` is the way in: ``install(job, judge, ...)``, and :mod:`respin.root.probe` for diagnosis.
* :mod:`respin.root.delta` is the typed difference between the vendor's root and the changed one.
* Parent side: ``sandbox`` (spawns the agent), ``idmaps``, ``protocol``.
* Inside the namespaces: ``agent``, ``store`` and ``fuseview`` (the view), ``mounts``, ``isolation``, ``transaction``,
  ``derived``, ``compare``, ``entries``, ``space``, ``script``, ``apply``, ``readback``.

Nothing here decides whether a change is allowed: the caller's judge sees the delta before a byte of the image changes.
"""
