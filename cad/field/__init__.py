"""The technician's laptop: asks the headend, or a signed extract, about the card in the reader."""
