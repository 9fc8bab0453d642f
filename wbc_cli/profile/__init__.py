"""A laboratory's profile: a type head of its own, learned from reviewed cells, beside the shipped one."""
