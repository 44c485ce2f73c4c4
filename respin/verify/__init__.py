"""Verifying a respun ISO: what is claimed, by whom, and whether the bytes agree. Never mounts or executes anything."""
