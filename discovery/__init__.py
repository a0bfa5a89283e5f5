"""Where the ring and the live members are announced."""
