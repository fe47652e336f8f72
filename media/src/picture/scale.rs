//! Smaller pictures from bigger ones.
