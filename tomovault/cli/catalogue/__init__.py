"""The SQL catalogue: upgrade, check, back up, make again from a tier."""
