"""The Ray cluster: joining one, and checking the file from which `ray up` makes one."""
