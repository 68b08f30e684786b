"""Inside the kernel: magics, live answers and tables. Talks to the server over HTTP, through ``client``, only."""
