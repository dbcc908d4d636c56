"""What goes on the air: rosters, carousels at work, and the links to multiplexers."""
