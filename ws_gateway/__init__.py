"""The WebSocket gateway: sockets in, distances out."""
