"""The works of the carousel: rings in arrays, the policy, the arithmetic of promises, a clock that never falls back."""
