//! `--print-capabilities`: what this program can do, for programs that start it.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use sys::socket::{Peek, can_bind_device, has_ipv6};

use crate::version::VERSION;

/// One JSON object in one line. `type` is what the conventions for vhost-user back-ends ask for; the rest is
/// ours: how a hypervisor can be connected, and what the kernel lets us do.
pub(super) fn text() -> String {
    let peek_offset = Peek::probe(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let object = json!({
        "type": "net",
        "version": VERSION,
        "links": ["stream"],
        "kernel": {
            "ipv6": has_ipv6(),
            "bind-to-device": can_bind_device(),
            "peek-offset": matches!(peek_offset, Ok(Peek::Offset)),
        },
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn one_object_in_one_line() {
        let text = super::text();
        assert_eq!(text.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["type"], "net");
        assert_eq!(object["links"][0], "stream");
        assert!(object["kernel"]["ipv6"].is_boolean());
    }
}
