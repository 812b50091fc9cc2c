"""Places for packages, one file per kind."""
