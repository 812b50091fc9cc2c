"""What is in quarantine, and taking it back."""
