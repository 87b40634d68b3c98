"""The public shape of `appliance_ids.pyx`: compiled modules alone use it."""

class ApplianceIds:
    """The appliances of a fleet file by id, and their clusters."""
