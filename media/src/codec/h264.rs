//! H.264 constrained baseline through openh264.
