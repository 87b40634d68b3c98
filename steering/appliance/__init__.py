"""The reference appliance: an agent beside stock nginx that speaks HTTP to control and nothing else."""
