"""The web page of tools/webdemo.py. It needs the extra `web`, so no other package imports it."""
