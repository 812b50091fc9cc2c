"""Ways to people: one file a kind of channel, and the texts of messages in `templates/`."""
