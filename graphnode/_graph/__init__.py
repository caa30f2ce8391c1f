"""What instances are like: graphs taken apart and put together again; see the README beside this file."""
