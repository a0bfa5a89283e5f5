"""Where everybody has been: a stream, its writer and its stores."""
