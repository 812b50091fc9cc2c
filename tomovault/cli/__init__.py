"""One file per command; the file's path is the command's path."""
