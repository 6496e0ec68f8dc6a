"""The service: what it accepts, how it answers, and what it tells about itself."""
