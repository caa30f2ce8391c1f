"""What objects look like: one description, and text, HTML, rich and treescope from it."""
