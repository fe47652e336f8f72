//! Sound from and to WAV files, and the test tone.
