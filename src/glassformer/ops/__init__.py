"""Pure functions of tensors and numbers: attention, masks, rotations, losses. No parameters, no configs, no state."""
