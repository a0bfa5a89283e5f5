"""Ten thousand phones and more in each process: ``python -m loadtest.dense``; begin with docs/load-testing.md."""
