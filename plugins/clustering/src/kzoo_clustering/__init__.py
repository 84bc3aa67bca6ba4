"""Methods that cluster while they learn: SwAV."""
