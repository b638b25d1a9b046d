//! Safe names for system calls.
