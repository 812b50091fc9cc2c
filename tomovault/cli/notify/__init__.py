"""Messages to people: try a channel, see what is on its way."""
