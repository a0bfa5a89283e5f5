"""``nearby history``: how the history is doing, in numbers; where anybody was is not among them."""
