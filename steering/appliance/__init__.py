"""The reference appliance: an agent beside stock nginx. It speaks HTTP to control and imports nothing else of steering."""
