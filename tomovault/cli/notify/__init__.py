"""Messages to people: try a channel."""
