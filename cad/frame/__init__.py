"""What any daemon needs: clock, tasks, signals, logs, metrics, health, systemd."""
