"""Recorded incidents that we made in our lab, and the demo over them."""
