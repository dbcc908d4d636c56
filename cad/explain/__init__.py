"""Why a card can see a channel or not (X5): what is known of the card, one verdict, what is missing. Pure."""
