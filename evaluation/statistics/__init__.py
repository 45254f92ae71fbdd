"""Agreement with MOS in the field's figures, with intervals."""
