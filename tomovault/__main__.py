"""`python -m tomovault` is the command `tomovault`."""

from tomovault.cli import main

main()
