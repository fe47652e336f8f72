//! The strip of cells that numbers a picture.
