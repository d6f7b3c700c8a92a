"""What is out there: Kubernetes, metrics and logs, live or recorded, and the one door that writes. It decides nothing."""
