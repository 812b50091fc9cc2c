"""Rules as data: what a site wants, and when."""
