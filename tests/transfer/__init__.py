"""Laws of the room `ackpt.transfer`."""
