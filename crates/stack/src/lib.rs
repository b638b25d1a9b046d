//! Decisions.
#![forbid(unsafe_code)]
