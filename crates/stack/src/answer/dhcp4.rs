//! The DHCP server (RFC 2131): one address, for whoever asks, for ever.

use std::net::Ipv4Addr;

use wire::dhcp4::{
    BOOTREQUEST, CLIENT_PORT, DhcpHeader, INFINITE, Options, ReplyWriter, SERVER_PORT, code,
    message_type,
};
use wire::dns_name;
use wire::writer::Writer;

use super::Datagram;
use crate::config::{Config, Ipv4Config};
use crate::cx::Cx;
use crate::io::{Guest, Host};

/// Flag of option 81: the name is in DNS format (RFC 4702 §2.1).
const FQDN_CANONICAL: u8 = 0x04;

/// An answer written into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Length in bytes of the message: the payload of a datagram from port 67 to port 68.
    pub len: usize,
    /// Source: our address on the link, the guest's gateway.
    pub src: Ipv4Addr,
    /// Destination: the client, or everybody if it asked for broadcasts.
    pub dst: Ipv4Addr,
}

/// What the options of a reply depend on.
struct Lease<'a> {
    config: &'a Config,
    v4: &'a Ipv4Config,
    gateway: Ipv4Addr,
    kind: u8,
    /// The client asked for rapid commit, and gets it.
    rapid: bool,
    /// An address is assigned; not so in an answer to DHCPINFORM.
    lease: bool,
}

/// Every option we may send, ascending.
const CODES: [u8; 12] = [
    code::SUBNET_MASK,
    code::ROUTER,
    code::DNS,
    code::HOST_NAME,
    code::MTU,
    code::LEASE_TIME,
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::RAPID_COMMIT,
    code::CLIENT_FQDN,
    code::DOMAIN_SEARCH,
    code::CLASSLESS_ROUTES,
];

/// Writes the answer to a message from the guest to port 67.
///
/// DISCOVER gets an OFFER (or, with rapid commit, an ACK at once), REQUEST and plain BOOTP an ACK, INFORM
/// an ACK without lease; DECLINE and RELEASE need no answer. There is one lease for everybody and no NAK:
/// what the client wishes for does not matter. `None`: no answer, or `out` is shorter than
/// [`ReplyWriter::MAX_LEN`].
pub fn answer(config: &Config, message: &[u8], out: &mut [u8]) -> Option<Reply> {
    let v4 = config.v4.as_ref()?;
    let gateway = v4.gateway?;
    if !config.services.dhcp {
        return None;
    }
    let (header, area) = DhcpHeader::parse(message)?;
    if header.op != BOOTREQUEST {
        return None;
    }
    let options = Options::new(area);
    let rapid = options.get(code::RAPID_COMMIT).is_some();
    let (kind, rapid, lease) = match options.get(code::MESSAGE_TYPE) {
        Some([message_type::DISCOVER]) if rapid => (message_type::ACK, true, true),
        Some([message_type::DISCOVER]) => (message_type::OFFER, false, true),
        Some([message_type::REQUEST]) | None => (message_type::ACK, false, true),
        Some([message_type::INFORM]) => (message_type::ACK, false, false),
        Some(_) => return None,
    };
    let lease = Lease { config, v4, gateway, kind, rapid, lease };
    let your_address = if lease.lease { v4.addr } else { Ipv4Addr::UNSPECIFIED };
    let mut reply = ReplyWriter::new(out, &header.reply(your_address))?;
    lease.write(options.get(code::PARAMETER_LIST), &mut reply);

    let client = Ipv4Addr::from(header.ciaddr);
    let dst = if header.wants_broadcast() {
        Ipv4Addr::BROADCAST
    } else if lease.lease || client.is_unspecified() {
        v4.addr
    } else {
        client
    };
    Some(Reply { len: reply.finish(), src: gateway, dst })
}

impl Lease<'_> {
    /// Requested options first, in the order of the request; then the others, ascending. What does not
    /// fit is left out.
    fn write(&self, requested: Option<&[u8]>, reply: &mut ReplyWriter<'_>) {
        let mut left = CODES;
        let requested = requested.unwrap_or_default();
        // Some clients take only a reply that begins with its type, without asking for that.
        if !requested.is_empty() && !requested.contains(&code::MESSAGE_TYPE) {
            self.write_option(code::MESSAGE_TYPE, &mut left, reply);
        }
        for code in requested.iter().chain(&CODES) {
            self.write_option(*code, &mut left, reply);
        }
    }

    /// Writes an option once, if it is one of ours and has a value.
    fn write_option(&self, code: u8, left: &mut [u8; CODES.len()], reply: &mut ReplyWriter<'_>) {
        let Some(slot) = left.iter_mut().find(|slot| **slot == code && code != code::PAD) else {
            return;
        };
        *slot = code::PAD;
        let mut value = [0; 255];
        let mut w = Writer::new(&mut value);
        if self.value(code, &mut w).is_some() && reply.option(code, w.written()).is_none() {
            log::debug!("DHCP: no room for option {code}");
        }
    }

    /// Writes the value of an option; `None` if there is none to send.
    fn value(&self, code: u8, w: &mut Writer<'_>) -> Option<()> {
        let (config, services) = (self.config, &self.config.services);
        match code {
            code::SUBNET_MASK => w.put(&mask(self.v4.prefix_len).to_be_bytes()),
            code::ROUTER | code::SERVER_ID => w.put(&self.gateway.octets()),
            code::DNS if services.announce_dns && !self.v4.dns.is_empty() => {
                self.v4.dns.iter().try_for_each(|server| w.put(&server.octets()))
            }
            code::HOST_NAME => w.put(config.hostname.as_ref()?.as_bytes()),
            code::MTU => w.put_u16(config.mtu?),
            code::LEASE_TIME if self.lease => w.put_u32(INFINITE),
            code::MESSAGE_TYPE => w.put_u8(self.kind),
            code::RAPID_COMMIT if self.rapid => Some(()),
            code::CLIENT_FQDN => {
                let name = config.fqdn.as_ref()?;
                // The two obsolete result codes are 255 (RFC 4702 §2.2).
                w.put(&[FQDN_CANONICAL, 0xff, 0xff])?;
                dns_name::write(w, name)
            }
            code::DOMAIN_SEARCH if services.announce_search => {
                for name in &config.search {
                    if dns_name::encoded_len(name).is_some() {
                        // In the order of preference: nothing is sent beyond one that does not fit.
                        let Some(()) = dns_name::write_compressed(w, 0, name) else { break };
                    }
                }
                (!w.is_empty()).then_some(())
            }
            code::CLASSLESS_ROUTES if self.gateway_is_off_link() => {
                let gateway = self.gateway.octets();
                // A host route to the gateway on the link, then the default route through it.
                w.put_u8(32)?;
                w.put(&gateway)?;
                w.put(&[0; 4])?;
                w.put_u8(0)?;
                w.put(&gateway)
            }
            _ => None,
        }
    }

    fn gateway_is_off_link(&self) -> bool {
        (self.gateway.to_bits() ^ self.v4.addr.to_bits()) & mask(self.v4.prefix_len) != 0
    }
}

/// A prefix length as a mask.
fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(prefix_len.into())).unwrap_or(0)
}

/// Answers the payload of a datagram from the guest to port 67.
pub fn on_datagram<G: Guest, H: Host>(cx: &mut Cx<'_, G, H>, payload: &[u8]) {
    let (config, our_mac, guest_mac) = (cx.config, cx.config.our_mac, cx.link.guest_mac());
    super::send_udp(cx, ReplyWriter::MAX_LEN, |out| {
        let reply = answer(config, payload, out)?;
        Some(Datagram {
            len: reply.len,
            route: crate::frame::Route {
                src: reply.src.into(),
                dst: reply.dst.into(),
                src_mac: our_mac,
                // Even a broadcast goes to the one who asked.
                dst_mac: guest_mac,
            },
            src_port: SERVER_PORT,
            dst_port: CLIENT_PORT,
            flow_label: 0,
        })
    });
}

#[cfg(test)]
mod tests;
