//! The conversation: a command and its sockets, the same byte back, until the server has had enough.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use sys::{rights, unix};

use super::failure::Failure;
use super::message::{self, Outline, ROOM};

/// Obeys all commands.
pub(super) fn all(server: &OwnedFd) -> Result<(), Failure<'static>> {
    while one(server)? {}
    Ok(())
}

/// Obeys one command; `false` if there is none any more. Our copies of its sockets are closed, whatever happens.
fn one(server: &OwnedFd) -> Result<bool, Failure<'static>> {
    let mut bytes = [0; ROOM];
    let received = match rights::receive(server, &mut bytes) {
        Ok(received) if received.len == 0 => return Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
        Ok(received) => received,
        Err(error) => return Err(Failure::Receive(error)),
    };
    let bytes = bytes.get(..received.len).unwrap_or_default();
    let outline = Outline::from(&received);
    let mode = message::decode(bytes, outline).map_err(Failure::Malformed)?;
    for (index, socket) in received.descriptors.into_iter().enumerate() {
        mode.set(&socket)
            .map_err(|error| Failure::Repair(mode, index + 1, outline.sockets, error))?;
    }
    unix::write(server, bytes).map_err(Failure::Reply)?;
    Ok(true)
}
