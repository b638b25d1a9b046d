//! The namespace and its interface (pasta).

use super::{Action, Complete, Flag, Group, Modes};

const BASE: Flag = Flag { modes: Modes::PASTA, group: Group::Namespace, ..Flag::LATER };

/// The flags of this group.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "ns-ifname",
        short: Some('I'),
        metavar: Some("NAME"),
        help: "Name of the interface in the namespace",
        man: "An existing tap device of that name is attached to.",
        default: Some("that of the template interface, or tap0"),
        action: Action::Value(|said, given| {
            said.ns_interface = Some(given.interface_name()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "ns-mac-addr",
        metavar: Some("ADDR"),
        help: "MAC address of the interface in the namespace",
        default: Some("chosen by the kernel"),
        action: Action::Value(|said, given| {
            said.ns_mac = Some(given.mac()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "netns",
        metavar: Some("PATH|NAME"),
        help: "Connect this network namespace",
        man: "A value without a slash names a file in /run/netns. Cannot be combined with a PID or a \
              command.",
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.netns = Some(given.path("Invalid network namespace")?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "userns",
        metavar: Some("PATH"),
        help: "Join this user namespace first",
        man: "Undoes an earlier --netns-only.",
        default: Some("that of the PID; a new one for a command"),
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.userns = Some(given.path("Invalid userns")?);
            said.netns_only = false;
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "netns-only",
        help: "Neither join nor create a user namespace",
        man: "Undoes an earlier --userns.",
        default: Some("off; on if --netns is given without --userns"),
        action: Action::Switch(|said| {
            said.netns_only = true;
            said.userns = None;
        }),
        ..BASE
    },
    Flag {
        long: "no-pidns",
        help: "Run the command without a PID namespace",
        man: "Cannot be combined with a PID or --netns.",
        action: Action::Switch(|said| said.no_pidns = true),
        ..BASE
    },
    Flag {
        long: "no-netns-quit",
        help: "Go on when the namespace is gone",
        man: "Without it, the program ends when the file of --netns is removed or the process of PID ends.",
        action: Action::Switch(|said| said.no_netns_quit = true),
        ..BASE
    },
    Flag {
        long: "config-net",
        help: "Configure the interface in the namespace",
        man: "Brings the interface up and gives it MTU, addresses and routes, copied from the template \
              interface as far as no option says otherwise. No router advertisements are sent then.",
        default: Some("leave that to a DHCP client in the namespace"),
        action: Action::Switch(|said| said.config_net = true),
        ..BASE
    },
    Flag {
        long: "no-copy-routes",
        help: "With --config-net, set the default route only",
        man: "Deprecated: --gateway has the same effect.",
        action: Action::Switch(|said| {
            said.no_copy_routes = true;
            said.warn("--no-copy-routes will be dropped soon");
        }),
        ..BASE
    },
    Flag {
        long: "no-copy-addrs",
        help: "With --config-net, set one address only",
        man: "Deprecated: --address has the same effect.",
        action: Action::Switch(|said| {
            said.no_copy_addrs = true;
            said.warn("--no-copy-addrs will be dropped soon");
        }),
        ..BASE
    },
];
