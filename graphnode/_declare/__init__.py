"""What a class declares, and what construction makes of it: see the README beside this file."""
