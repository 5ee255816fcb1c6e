"""The change and the way back: closure, snapshot, exact deploy, restore, proof, settle."""
