"""observe -> classify -> decide -> act: the loop that keeps a study going."""
