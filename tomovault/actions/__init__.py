"""Verbs that a job process carries out, one file each."""
