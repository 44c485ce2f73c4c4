"""Building a respin: verify, plan, install, splice, seal, publish."""
