//! Moves bytes.
#![forbid(unsafe_code)]
