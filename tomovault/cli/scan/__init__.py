"""Scans: list them, show one, overrule a certificate."""
