//! Where the guest is: a namespace with a tap interface, or a hypervisor at a socket.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Result, bail};
use engine::{Attachment, Hypervisor};
use sys::netns::{self, QuitWatch};
use sys::process::{Child, Inherited};
use sys::tun::Tap;
use wire::ethernet::MacAddr;

use super::{fail, ports, service, socket};
use crate::config::{Forwarding, Network, Run, Target};
use crate::configure_ns::{self, GuestInterface};
use crate::discover::Discovery;
use crate::namespace::{self, Entered, Named};

/// What was handed to us by descriptor, opened before we close what else we inherited.
pub(super) enum Handed {
    /// Namespaces, by paths that may lead through our descriptors.
    Namespaces(Named),
    /// A connection to a hypervisor.
    Connection(UnixStream),
    /// A socket on which hypervisors will find us.
    Listener(UnixListener),
    /// Nothing.
    Nothing,
}

impl Handed {
    /// Opens what there is.
    pub(super) fn open(run: &Run) -> Result<Self> {
        if let Some(listener) = service::listener(run)? {
            return Ok(Self::Listener(listener));
        }
        match run.target {
            Target::Command(_) | Target::Process(_) | Target::Path(_) => {
                Ok(Self::Namespaces(Named::open(run)?))
            }
            Target::Descriptor(number) => {
                let fd = fail("Could not move --fd descriptor", sys::fd::adopt(number))?;
                if !sys::unix::is_connected_stream(&fd) {
                    bail!("Descriptor {number} of --fd is not a connected stream socket");
                }
                Ok(Self::Connection(fd.into()))
            }
            Target::Socket(_) => Ok(Self::Nothing),
        }
    }

    /// The descriptors that are ours.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Namespaces(named) => named.descriptors(),
            Self::Connection(connection) => vec![connection.as_fd()],
            Self::Listener(listener) => vec![listener.as_fd()],
            Self::Nothing => Vec::new(),
        }
    }
}

/// The guest's end of everything, ready for traffic.
pub(super) struct Guest {
    pub(super) attachment: Attachment,
    /// MTU of its link in bytes, if that has one.
    pub(super) mtu: Option<u16>,
    /// Index of its interface in its namespace, or 0.
    pub(super) index: u32,
    /// Its MAC address, if it is known already.
    pub(super) mac: Option<MacAddr>,
    /// Its link-local address, if it is known already.
    pub(super) link_local: Option<Ipv6Addr>,
    /// It can have IPv4.
    pub(super) ipv4: bool,
    /// It can have IPv6.
    pub(super) ipv6: bool,
    /// We have left our user namespace for the guest's.
    pub(super) moved: bool,
    /// Its network namespace, if we can enter it.
    pub(super) namespace: Option<OwnedFd>,
    /// What listens there.
    pub(super) inside: ports::Inside,
    /// The command that runs there, if we started one; it waits to be released.
    pub(super) command: Option<Child>,
    /// Tells of the end of its namespace.
    pub(super) watch: Option<QuitWatch>,
    /// With its PID namespace a command takes along whoever else is in the network namespace: then this
    /// is left to the namespace at the end.
    pub(super) last_tap: Option<Tap>,
    /// How to start a hypervisor that finds us.
    pub(super) hint: Option<String>,
}

impl Guest {
    /// Enters or makes the namespaces, makes the interface and listens there; or waits for a hypervisor.
    pub(super) fn set_up(
        handed: Handed,
        (run, inherited, stay_outside): (&Run, &Inherited, bool),
        (network, discovery): (&Network, &Discovery),
        forwarding: &Forwarding,
    ) -> Result<Self> {
        match (handed, &run.target) {
            (Handed::Namespaces(named), _) => {
                let watch = named.watch(run)?;
                let entered = namespace::enter(named, run, inherited, stay_outside)?;
                Self::in_namespace(entered, watch, run, (network, discovery), forwarding)
            }
            (Handed::Connection(connection), _) => {
                Ok(Self::new(Attachment::Stream(Hypervisor::Connected(connection))))
            }
            (Handed::Listener(listener), _) => {
                let path = fail("Couldn't read address of socket", service::place(&listener))?;
                Ok(Self::waiting(listener, &path, run.one_off))
            }
            (Handed::Nothing, Target::Socket(path)) => {
                let (listener, path) = match path {
                    Some(path) => (socket::listen(path)?, path.clone()),
                    None => socket::listen_anywhere()?,
                };
                Ok(Self::waiting(listener, &path.display().to_string(), run.one_off))
            }
            (Handed::Nothing, _) => bail!("No guest given"),
        }
    }

    /// One whose hypervisor is still to come.
    fn waiting(listener: UnixListener, path: &str, one_off: bool) -> Self {
        let hint = format!(
            "To start a virtual machine on this network (QEMU 7.2 or later):\n    \
                     qemu-system-x86_64 … -device virtio-net-pci,netdev=s \
                     -netdev stream,id=s,server=off,addr.type=unix,addr.path={path}"
        );
        let hypervisor = Hypervisor::Listener { socket: listener, one_off };
        Self { hint: Some(hint), ..Self::new(Attachment::Stream(hypervisor)) }
    }

    fn in_namespace(
        entered: Entered,
        watch: Option<QuitWatch>,
        run: &Run,
        (network, discovery): (&Network, &Discovery),
        forwarding: &Forwarding,
    ) -> Result<Self> {
        let Entered { network: namespace, command, moved } = entered;
        let visit = netns::in_network(namespace.as_fd(), || {
            let interface = if forwarding.splice_only {
                configure_ns::bring_up_loopback()?;
                None
            } else {
                Some(configure_ns::set_up(network, discovery, run.ns_mac)?)
            };
            let scope_id = interface.as_ref().map_or(0, |interface| interface.index);
            let inside = ports::inside(forwarding, scope_id)?;
            Ok::<_, anyhow::Error>((interface, inside))
        });
        let (interface, inside) = fail("Couldn't switch to pasta namespaces", visit)??;
        let takes_all = command.is_some() && run.pid_namespace;
        let last_tap = match interface.as_ref().filter(|_| takes_all) {
            Some(interface) => {
                Some(fail("Couldn't duplicate descriptor", interface.tap.try_clone())?)
            }
            None => None,
        };
        let link = match interface {
            Some(GuestInterface { tap, index, mac, mtu, link_local, ipv4, ipv6 }) => Self {
                mtu: u16::try_from(mtu).ok(),
                index,
                mac: Some(mac),
                link_local,
                ipv4,
                ipv6,
                ..Self::new(Attachment::Tap(tap))
            },
            None => Self::new(Attachment::None),
        };
        let namespace = Some(namespace);
        Ok(Self { namespace, inside, command, watch, last_tap, moved, ..link })
    }

    fn new(attachment: Attachment) -> Self {
        Self {
            attachment,
            mtu: None,
            index: 0,
            mac: None,
            link_local: None,
            ipv4: true,
            ipv6: true,
            moved: false,
            namespace: None,
            inside: ports::Inside::default(),
            command: None,
            watch: None,
            last_tap: None,
            hint: None,
        }
    }
}
