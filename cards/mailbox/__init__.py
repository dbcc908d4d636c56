"""The card's mailbox: notices taken from EMMs of format 2, kept until a receiver has shown them."""
