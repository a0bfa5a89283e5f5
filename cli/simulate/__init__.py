"""``nearby simulate``: a crowd that drives a running stack through its public interfaces and checks what it sees."""
