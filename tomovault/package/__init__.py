"""The file a scan is stored in: compressed, readable by others, byte-exact on the way back."""
