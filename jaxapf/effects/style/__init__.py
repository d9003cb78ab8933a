"""Style transfer: the network that chooses an effect chain's controls, and what applies them."""
