"""How a gradient is made: stage, run forward with a tape, run the tape backward."""
