"""What the harness costs, beside what one would use in its place. See ``__main__``."""
