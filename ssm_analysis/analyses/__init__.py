"""Functions from a system to an array, or to one frozen result: they neither print nor draw."""
