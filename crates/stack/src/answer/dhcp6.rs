//! The DHCPv6 server (RFC 8415): one address, for whoever asks, for ever.

use std::net::Ipv6Addr;

use wire::IntoBytes;
use wire::dhcp6::{
    Association, CLIENT_PORT, DUID_LLT_LEN, INFINITE, LinkLayerTimeDuid, MAX_DUID, MessageHeader,
    MessageWriter, Options, SERVER_PORT, code, message_type, status,
};

use super::Datagram;
use crate::config::{Config, Ipv6Config};
use crate::cx::Cx;
use crate::io::{Guest, Host};

/// The most bytes of payload that fit the smallest MTU.
const ROOM: usize = wire::ipv6::MIN_MTU - wire::ipv6::HEADER_LEN - wire::udp::HEADER_LEN;

/// Flags of the FQDN option (RFC 4704 §4.1): the server updates the name; it did so against the client's
/// wish.
const FQDN_SERVER: u8 = 0x01;
const FQDN_OVERRIDE: u8 = 0x02;

/// An answer written into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Length in bytes of the message: the payload of a datagram from port 547 to port 546, from our
    /// link-local address to the source of the request.
    pub len: usize,
    /// The transaction identifier (24 bits), whose low 20 bits become the flow label.
    pub xid: u32,
    /// The client has our address from now on.
    pub assigned: bool,
}

/// A request that will be answered.
struct Request<'a> {
    config: &'a Config,
    v6: &'a Ipv6Config,
    /// The address we assign.
    addr: Ipv6Addr,
    header: &'a MessageHeader,
    options: Options<'a>,
    client: Option<&'a [u8]>,
    duid: [u8; DUID_LLT_LEN],
}

/// Writes the answer to a message from the guest to port 547 of `dst`; `None` if there is none.
///
/// Messages to a unicast address, and those that RFC 8415 §16 tells servers to discard, are not
/// answered. What does not fit `out` is left out.
pub fn answer(config: &Config, dst: Ipv6Addr, message: &[u8], out: &mut [u8]) -> Option<Reply> {
    let v6 = config.v6.as_ref()?;
    let addr = v6.addr?;
    if !config.services.dhcpv6 || !dst.is_multicast() {
        return None;
    }
    let (header, options) = MessageHeader::parse(message)?;
    let client = options.get(code::CLIENT_ID);
    if client.is_some_and(|duid| duid.is_empty() || duid.len() > MAX_DUID) {
        return None;
    }
    let mut duid = [0; DUID_LLT_LEN];
    duid.copy_from_slice(LinkLayerTimeDuid::new(config.duid_time, config.our_mac).as_bytes());
    let server = options.get(code::SERVER_ID);
    let (for_us, for_any) = (server == Some(duid.as_slice()), server.is_none());
    let accepted = match header.kind {
        message_type::SOLICIT | message_type::CONFIRM => client.is_some() && for_any,
        message_type::REQUEST
        | message_type::RENEW
        | message_type::RELEASE
        | message_type::DECLINE => client.is_some() && for_us,
        // Without server identifier by RFC 8415 §18.2.5; some clients have been told otherwise.
        message_type::REBIND => client.is_some() && (for_any || for_us),
        message_type::INFORMATION_REQUEST => {
            (for_any || for_us) && options.associations().next().is_none()
        }
        _ => false,
    };
    if !accepted {
        return None;
    }
    Request { config, v6, addr, header, options, client, duid }.answer(out)
}

impl Request<'_> {
    fn answer(&self, out: &mut [u8]) -> Option<Reply> {
        let has_rapid_commit = self.options.get(code::RAPID_COMMIT).is_some();
        let rapid = self.header.kind == message_type::SOLICIT && has_rapid_commit;
        let advertise = self.header.kind == message_type::SOLICIT && !rapid;
        let kind = if advertise { message_type::ADVERTISE } else { message_type::REPLY };
        let mut w = MessageWriter::new(out, kind, self.header.xid)?;
        w.option(code::SERVER_ID, &self.duid)?;
        let assigned = match self.header.kind {
            message_type::CONFIRM => return self.confirm(w),
            message_type::RELEASE | message_type::DECLINE => {
                // Whatever happens, the address remains this client's.
                w.status(status::SUCCESS, "Noted.")?;
                return self.finish(w, false);
            }
            message_type::REQUEST if self.off_link().next().is_some() => {
                for association in self.off_link() {
                    w.association((association.code, association.iaid), (0, 0), not_on_link)?;
                }
                return self.finish(w, false);
            }
            _ => self.associations(&mut w)?,
        };
        self.client_id(&mut w)?;
        if rapid {
            w.option(code::RAPID_COMMIT, &[])?;
        }
        self.configuration(&mut w);
        Some(Reply { len: w.len(), xid: self.header.xid(), assigned: assigned && !advertise })
    }

    /// Associations with an address other than ours.
    fn off_link(&self) -> impl Iterator<Item = Association<'_>> {
        self.options.associations().filter(|association| {
            association.code != code::IA_PD && association.addresses().any(|addr| addr != self.addr)
        })
    }

    /// Does the client's address suit the link? (§18.3.3)
    fn confirm(&self, mut w: MessageWriter<'_>) -> Option<Reply> {
        let mut addresses = self.options.associations().flat_map(|ia| ia.addresses()).peekable();
        // Without any address there is nothing to confirm, and no answer.
        addresses.peek()?;
        let ours = addresses.all(|addr| addr == self.addr);
        if ours {
            w.status(status::SUCCESS, "All addresses suit the link.")?;
        } else {
            not_on_link(&mut w)?;
        }
        self.finish(w, ours)
    }

    /// What the client asked for: our address for the first association, nothing for others. `true`:
    /// the address was handed out.
    fn associations(&self, w: &mut MessageWriter<'_>) -> Option<bool> {
        let mut assigned = false;
        let extends = matches!(self.header.kind, message_type::RENEW | message_type::REBIND);
        for association in self.options.associations() {
            let id = (association.code, association.iaid);
            match association.code {
                code::IA_NA if !assigned => {
                    assigned = true;
                    w.association(id, (INFINITE, INFINITE), |w| {
                        w.address(self.addr, INFINITE)?;
                        // §18.3.4: the client stops using what is not valid here.
                        let stale = association.addresses().filter(|addr| *addr != self.addr);
                        stale.filter(|_| extends).try_for_each(|addr| w.address(addr, 0))
                    })?;
                }
                code::IA_PD => w.association(id, (0, 0), |w| {
                    w.status(status::NO_PREFIX_AVAIL, "No prefixes to delegate.")
                })?,
                _ => w.association(id, (0, 0), |w| {
                    w.status(status::NO_ADDRS_AVAIL, "There is one address only.")
                })?,
            }
        }
        Some(assigned)
    }

    /// Resolvers, search list, name.
    fn configuration(&self, w: &mut MessageWriter<'_>) {
        let services = &self.config.services;
        if services.announce_dns {
            w.dns_servers(&self.v6.dns);
        }
        if services.announce_search {
            w.domain_list(self.config.search.iter().map(String::as_str));
        }
        if let Some(name) = &self.config.fqdn {
            let wish = self.options.get(code::CLIENT_FQDN).and_then(|value| value.first());
            let overridden = wish.is_some_and(|flags| flags & FQDN_SERVER != 0);
            w.client_fqdn(if overridden { FQDN_OVERRIDE } else { 0 }, name);
        }
    }

    fn client_id(&self, w: &mut MessageWriter<'_>) -> Option<()> {
        self.client.map_or(Some(()), |duid| w.option(code::CLIENT_ID, duid))
    }

    fn finish(&self, mut w: MessageWriter<'_>, assigned: bool) -> Option<Reply> {
        self.client_id(&mut w)?;
        Some(Reply { len: w.len(), xid: self.header.xid(), assigned })
    }
}

fn not_on_link(w: &mut MessageWriter<'_>) -> Option<()> {
    w.status(status::NOT_ON_LINK, "Prefix not appropriate for link.")
}

/// Answers the payload of a datagram from `source` to port 547 of `dst`.
pub fn on_datagram<G: Guest, H: Host>(
    cx: &mut Cx<'_, G, H>,
    source: Ipv6Addr,
    dst: Ipv6Addr,
    payload: &[u8],
) {
    let Some(v6) = cx.config.v6.as_ref() else { return };
    let config = cx.config;
    let route = super::route(cx, v6.our_link_local.into(), source.into());
    let mut assigned = false;
    super::send_udp(cx, ROOM, |out| {
        let reply = answer(config, dst, payload, out)?;
        assigned = reply.assigned;
        Some(Datagram {
            len: reply.len,
            route,
            src_port: SERVER_PORT,
            dst_port: CLIENT_PORT,
            flow_label: reply.xid,
        })
    });
    if assigned {
        cx.link.assigned_v6(v6);
    }
}

#[cfg(test)]
mod tests;
