"""What the open pages hear: one WebSocket a tab, many topics, each with a cursor."""
