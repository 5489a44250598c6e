"""What the commands print, as tables for people."""
