"""Rules: check them, see what they would do now."""
