"""The SQL catalogue: upgrade, check, back up."""
