//! Command line.
#![forbid(unsafe_code)]

pub mod flags;
pub mod parse;
pub mod said;
