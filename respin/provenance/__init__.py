"""What a respin claims about itself: the statement, its signature slot, what the signature covers, the Node's facts."""
