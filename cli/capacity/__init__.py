"""``nearby capacity``: how many servers a load takes, from what each thing was measured to cost."""
