"""``python -m cli``: the same as the console script ``nearby``."""

from cli.app import main

main(prog_name="nearby")
