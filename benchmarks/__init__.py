"""How fast parts of nearby are, next to what they could be at best. Run by hand, on an idle machine."""
