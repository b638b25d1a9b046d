//! The protocol of the configuration socket, version 2: forwarding rules as tables of bytes.
//!
//! The server greets each client with a [`hello`](hello::Hello) and its [tables](encode_configuration).
//! A client that wants something else sends [tables](encode_update) back, which replace those of the
//! server as a whole; one that it leaves out becomes empty. There is no answer: the server closes the
//! connection, and a client that wants to know connects again and reads.
//!
//! Integers are big-endian. Nothing here does I/O: the decoders take bytes in pieces of any size.
#![forbid(unsafe_code)]

mod capability;
mod decode;
pub mod hello;
mod message;
pub mod record;

pub use self::capability::Shown;
pub use self::decode::{ConfigurationDecoder, UpdateDecoder};
pub use self::message::{Error, PifTable, encode_configuration, encode_update};
