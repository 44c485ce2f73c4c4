"""Numbers of respins of one release: what the Node shows, and counts up when a respun ISO is the base."""

NEXT_REVISION, FIRST_REVISION, MOST_REVISIONS = 0, 1, 9999
