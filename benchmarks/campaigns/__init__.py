"""Long runs by hand, each resumable and with a size that rehearses it in minutes."""
