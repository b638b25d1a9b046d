//! Bytes and their meaning.
#![forbid(unsafe_code)]
