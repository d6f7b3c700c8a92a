"""How people and alerts meet Smokejumper: CLI, settings, assembly. It contains neither diagnosis nor policy."""
