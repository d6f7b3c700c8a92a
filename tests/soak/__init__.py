"""What takes too long for every commit: storms over the real control plane. Run by `make soak`."""
