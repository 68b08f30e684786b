"""Types that travel between processes and over HTTP."""
