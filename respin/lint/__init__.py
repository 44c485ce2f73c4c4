"""The lint of finished media: what firmware, boot loaders and installers would stumble over, found without booting."""
