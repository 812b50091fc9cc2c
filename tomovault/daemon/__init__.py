"""The loop that reads facts, decides, queues jobs and records what they bring back."""
