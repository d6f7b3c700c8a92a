"""The tools, over MCP. It holds no knowledge of clusters of its own."""
