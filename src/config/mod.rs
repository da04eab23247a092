//! One TOML file becomes the options of the rooms.
