"""Plans and runs one investigation over the same tools as every client."""
