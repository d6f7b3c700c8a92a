"""What an administrator applies to a cluster: roles, the fence, and proof of what they allow."""
