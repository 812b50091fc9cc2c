"""One file per format: recognise, inspect and lay out scans written by others."""
