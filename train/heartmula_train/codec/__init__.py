"""From frames of codes to 48 kHz stereo: residual VQ, flow matching, wave decoder."""
