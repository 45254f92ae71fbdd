"""How a run goes: configuration, control loop, weight sync, preflight, planning, deployment."""
