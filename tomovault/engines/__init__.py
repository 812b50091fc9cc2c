"""Reconstruction programs, one file each."""
