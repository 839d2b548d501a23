"""Trained models at work: other runtimes, bulk embedding and the web page."""
