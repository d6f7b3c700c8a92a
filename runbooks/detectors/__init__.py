"""One module per failure family; `registry.ALL` lists every detector."""
