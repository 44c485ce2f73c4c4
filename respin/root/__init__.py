"""The Node's root image: a copy-on-write view, the sandboxed RPM transaction on it, and the typed delta it leaves."""
