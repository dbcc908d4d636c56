"""What the headend says to cards: keys, EMM and ECM, the plan, the carousel. Pure."""
