//! Name servers and search domains as the host has them: `/etc/resolv.conf`.

use std::net::IpAddr;

/// Where the host keeps them.
pub const PATH: &str = "/etc/resolv.conf";

/// Search domains taken from the file, at most.
const MAX_SEARCH: usize = 5;
/// A line this long is not one of a resolver configuration.
const MAX_LINE: usize = 8191;

/// What a resolver configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers in order, without zones.
    pub nameservers: Vec<IpAddr>,
    /// Search domains of the first `search` line.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads the host's configuration; an absent file says nothing.
    #[must_use]
    pub fn read() -> Self {
        let text = std::fs::read(PATH).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// Parses `resolv.conf(5)`. Keywords count at the start of a line and before a space only.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            if line.len() > MAX_LINE {
                log::warn!("{PATH}: overlong line, rest ignored");
                break;
            }
            if let Some(value) = line.strip_prefix("nameserver ") {
                // The last word, without its zone.
                let word = value.rsplit(' ').next().unwrap_or_default();
                let addr = word.split('%').next().unwrap_or_default();
                found.nameservers.extend(addr.parse::<IpAddr>());
            } else if let Some(value) = line.strip_prefix("search ") {
                if found.search.is_empty() {
                    let words = value.split([' ', '\t']).filter(|word| !word.is_empty());
                    found.search = words.take(MAX_SEARCH).map(str::to_owned).collect();
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ResolvConf {
        ResolvConf::parse(text)
    }

    #[test]
    fn lines_of_a_file() {
        let found = file(
            "# comment\n\
             nameserver 192.0.2.1\n\
             \u{20}nameserver 192.0.2.2\n\
             nameserver\t192.0.2.3\n\
             nameserver   192.0.2.4\n\
             nameserver 192.0.2.5 \n\
             nameserver fe80::1%eth0\n\
             nameserver nonsense\n\
             domain example.org\n\
             search a.example\tb.example  c.example d.example e.example f.example\n\
             search late.example\n\
             nameserver 2001:db8::53",
        );
        let addresses: Vec<_> = found.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "192.0.2.4", "fe80::1", "2001:db8::53"]);
        let domains = ["a.example", "b.example", "c.example", "d.example", "e.example"];
        assert_eq!(found.search, domains);
        assert_eq!(file(""), ResolvConf::default());
    }

    #[test]
    fn an_overlong_line_ends_it() {
        let text = format!("nameserver 192.0.2.1\n#{}\nnameserver 192.0.2.2\n", "x".repeat(9000));
        assert_eq!(file(&text).nameservers, [IpAddr::from([192, 0, 2, 1])]);
    }
}
