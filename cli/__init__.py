"""The ``nearby`` command: starts the processes of one machine and speaks to running ones. See :mod:`cli.app`."""
