//! Ports that the kernel hands out by itself.

use std::io;
use std::ops::RangeInclusive;

/// Where the host says which they are.
pub const SYSCTL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// RFC 6335 §6.
const DEFAULT: RangeInclusive<u16> = 49_152..=65_535;

/// The ports that outgoing connections have: not worth listening on unless somebody says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral(pub RangeInclusive<u16>);

impl Default for Ephemeral {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl Ephemeral {
    /// From the text of the sysctl, two numbers.
    ///
    /// # Errors
    /// What to tell the user, who then has [`Ephemeral::default`].
    pub fn parse(text: io::Result<String>) -> Result<Self, String> {
        let wrong = |why: &str| {
            let (first, last) = (DEFAULT.start(), DEFAULT.end());
            format!("{SYSCTL}: {why}, taking {first}-{last} for the ephemeral ports")
        };
        let text = text.map_err(|error| wrong(&sys::reason(&error)))?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(last)), None) => Ok(Self(first..=last)),
            _ => Err(wrong("not two ports")),
        }
    }

    /// Asks this host.
    ///
    /// # Errors
    /// As [`Ephemeral::parse`].
    pub fn read() -> Result<Self, String> {
        Self::parse(std::fs::read_to_string(SYSCTL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sysctl_or_the_default() {
        let parse = |text: &str| Ephemeral::parse(Ok(text.to_owned()));
        assert_eq!(parse("32768\t60999\n"), Ok(Ephemeral(32768..=60999)));
        for text in ["", "1", "1 2 3", "a b", "1 70000"] {
            assert!(parse(text).unwrap_err().contains("49152-65535"), "{text}");
        }
        let error = Ephemeral::parse(Err(io::Error::from_raw_os_error(2))).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
    }
}
