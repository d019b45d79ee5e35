"""What the tests that start jobs have in common; see job.py and trace.py."""
