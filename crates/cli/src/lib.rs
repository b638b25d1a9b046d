//! Command line.
#![forbid(unsafe_code)]
