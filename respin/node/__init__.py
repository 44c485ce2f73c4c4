"""What a hypervisor Node is: profiles (which Node, where things are, what is protected) and its layout on the ISO."""
