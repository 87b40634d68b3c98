"""`python -m steering.appliance`."""

from __future__ import annotations

from steering.appliance.command import main

main()
