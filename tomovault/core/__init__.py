"""Words and rules of a scan's life. Nothing here does any I/O."""
