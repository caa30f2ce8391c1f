"""Checkpoints that say what they hold: save, restore and load nodes with everything that trains."""
