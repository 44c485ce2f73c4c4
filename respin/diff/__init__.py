"""What differs between two Node ISOs: packages, files of the root, kernel modules, initrds, boot, the ISO itself."""
