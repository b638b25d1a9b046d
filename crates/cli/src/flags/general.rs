//! Process, logging, files.

use super::{Action, Complete, Flag, Group, Modes};
use crate::parse::Refusal;

const BASE: Flag = Flag::LATER;

/// The flags of this group.
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "debug",
        short: Some('d'),
        help: "Tell what is going on, on standard error",
        man: "Every line carries the seconds since the start. Undoes an earlier --quiet.",
        action: Action::Switch(|said| {
            said.debug = true;
            said.quiet = false;
        }),
        ..BASE
    },
    Flag {
        long: "trace",
        help: "Tell even more: each packet and each event",
        man: "Includes --debug. Undoes an earlier --quiet.",
        action: Action::Switch(|said| {
            said.trace = true;
            said.debug = true;
            said.quiet = false;
        }),
        ..BASE
    },
    Flag {
        long: "stats",
        metavar: Some("DELAY"),
        help: "Print event counters every DELAY seconds",
        man: "The counters are printed as a table on standard error, at most every DELAY seconds and only \
              while there are events. Needs --foreground, before or after it, or a command to run.",
        action: Action::Value(|said, given| {
            said.stats = Some(given.number_up_to("Invalid statistics delay", u32::MAX.into())?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        help: "Print warnings and errors only",
        man: "Undoes earlier --debug and --trace.",
        action: Action::Switch(|said| {
            said.quiet = true;
            said.debug = false;
            said.trace = false;
        }),
        ..BASE
    },
    Flag {
        long: "foreground",
        short: Some('f'),
        help: "Stay in the foreground",
        man: "Without it, the process that was started ends with status 0 once the network is ready, and \
              a child of it goes on in the background. Running a command implies --foreground.",
        default: Some("go to the background when ready"),
        action: Action::Switch(|said| said.foreground = true),
        ..BASE
    },
    Flag {
        long: "stderr",
        short: Some('e'),
        help: "Accepted for compatibility, without effect",
        man: "Messages go to standard error anyway, as long as the process is in the foreground.",
        action: Action::Switch(|said| said.warn("--stderr will be dropped soon")),
        ..BASE
    },
    Flag {
        long: "log-file",
        short: Some('l'),
        metavar: Some("PATH"),
        help: "Write messages to a file",
        man: "The file is emptied or made with mode 0600. Each message is a line with the seconds since the \
              start and its level; the first line names the program. Messages go to standard error too, as \
              long as the process is in the foreground, but not to the system's log. A full disk costs \
              messages, nothing else. With --debug and without --log-file, nothing goes to the system's log \
              either. That log is connected to once: if it makes its socket anew, nothing goes there any more.",
        default: Some("the system's log, /dev/log"),
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.log_file = Some(given.path("Invalid log file path")?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "log-size",
        metavar: Some("BYTES"),
        help: "Keep the file of --log-file below this size",
        man: "When the file would reach it, the oldest lines go, three tenths of it, and the first line tells \
              when that was. At least 40960 bytes.",
        default: Some("1048576"),
        action: Action::Value(|said, given| {
            said.log_size = Some(given.log_size()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "runas",
        metavar: Some("UID|LOGIN[:GID|:GROUP]"),
        help: "Change to this user when started as root",
        man: "Without a group, it is the number of the user if that is a number, else the primary group of \
              the login. A login that stands for user 0 is refused; the number 0 is not. Names are looked \
              up in /etc/passwd and /etc/group.",
        default: Some("nobody, if started as real root"),
        action: Action::Value(|said, given| {
            said.runas = Some(given.user()?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "conf-path",
        short: Some('c'),
        metavar: Some("PATH"),
        help: "Accept changes of the forwarding rules here",
        man: "A UNIX domain socket is made at PATH, for pesto(1). Whoever may write to it may change which \
              ports are forwarded, and where to; it is left in place at the end.",
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.conf_path = Some(given.socket_path("Invalid configuration path")?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "help",
        short: Some('h'),
        help: "Print this text and end",
        action: Action::Help,
        ..BASE
    },
    Flag { long: "version", help: "Print the version and end", action: Action::Version, ..BASE },
    Flag {
        long: "doctor",
        exact: true,
        help: "Check what this machine offers, and end",
        man: "One line for each check: its name, ok, warn or fail, what was found, and what can be done about it. \
              Everything is found out by trying, nothing is left behind. The exit status is 1 if a check \
              failed, which means that the program would not work; a warning means that something would not, or \
              not as well. The name of this option cannot be shortened.",
        action: Action::Doctor,
        ..BASE
    },
    Flag {
        long: "pcap",
        short: Some('p'),
        metavar: Some("PATH"),
        help: "Record the guest's traffic in a pcap file",
        man: "Frames of both directions are recorded as the guest sends and receives them. A file that \
              cannot be opened is reported, and the program goes on without it.",
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.pcap = Some(given.path("Invalid pcap path")?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "pid",
        short: Some('P'),
        metavar: Some("PATH"),
        help: "Write the process ID to a file",
        man: "The file is truncated or made with mode 0600, complete before the process that was started \
              ends, and left in place at the end.",
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.pid_file = Some(given.path("Invalid PID file")?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "ready-fd",
        metavar: Some("FD"),
        help: "Tell on descriptor FD when all is ready",
        man: "The word ready and a line break are written to FD, an inherited descriptor, which is then closed: \
              when the process that was started ends, or, in the foreground, at the same point, with the PID \
              file complete. A start that fails closes it without a word.",
        exact: true,
        action: Action::Value(|said, given| {
            said.ready_fd = Some(given.descriptor("Invalid --ready-fd")?);
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "chroot-fallback",
        help: "Allow chroot where pivot_root is refused",
        man: "The root directory is exchanged for an empty one. Where that cannot be done (the first file \
              system of a machine, an initramfs, cannot be left), the start fails, unless this option \
              allows to change into the empty directory instead. That is weaker: the former root stays \
              mounted beneath.",
        action: Action::Switch(|said| said.chroot_fallback = true),
        ..BASE
    },
    Flag {
        long: "socket",
        aliases: &["socket-path"],
        short: Some('s'),
        metavar: Some("PATH"),
        modes: Modes { name: "passt / vhost-user", ..Modes::PASST },
        group: Group::Hypervisor,
        help: "Wait for the hypervisor on this socket",
        man: "A UNIX domain stream socket is made at PATH and left in place at the end; one that nobody \
              listens on any more is replaced. Undoes an earlier --fd.",
        default: Some("the first of /tmp/passt_1.socket to /tmp/passt_64.socket that is free"),
        complete: Complete::File,
        action: Action::Value(|said, given| {
            said.socket = Some(given.socket_path("Invalid socket path")?);
            said.fd = None;
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "vhost-user",
        modes: Modes::ALL,
        group: Group::Hypervisor,
        help: "Speak vhost-user on the socket",
        ..BASE
    },
    Flag {
        long: "print-capabilities",
        group: Group::Hypervisor,
        help: "Print what this program can do and end",
        man: "One JSON object on standard output: the type of device, the version, and what this build and \
              this kernel can do.",
        action: Action::Capabilities,
        ..BASE
    },
    Flag {
        long: "repair-path",
        metavar: Some("PATH"),
        group: Group::Hypervisor,
        help: "Wait for passt-repair on this socket",
        man: "Only --repair-path none, which is the default without --vhost-user, is possible in this \
              version.",
        complete: Complete::Words(&["none"]),
        action: Action::Value(|said, given| {
            if given.is_none() {
                return Ok(());
            }
            if !said.vhost_user {
                return Err(Refusal::line("--repair-path is for vhost-user mode only"));
            }
            given.socket_path("Invalid repair socket path").map(drop)
        }),
        ..BASE
    },
    Flag {
        long: "migrate-exit",
        modes: Modes::VHOST,
        group: Group::Hypervisor,
        help: "End after a migration to elsewhere",
        ..BASE
    },
    Flag {
        long: "migrate-no-linger",
        modes: Modes::VHOST,
        group: Group::Hypervisor,
        help: "Close sockets at once after a migration",
        ..BASE
    },
    Flag {
        long: "fd",
        short: Some('F'),
        metavar: Some("FD"),
        modes: Modes::PASST,
        group: Group::Hypervisor,
        help: "The hypervisor is connected to descriptor FD",
        man: "The descriptor is inherited, and one end of a stream socket. Implies --one-off. Undoes an \
              earlier --socket.",
        action: Action::Value(|said, given| {
            said.fd = Some(given.descriptor("Invalid --fd")?);
            said.socket = None;
            Ok(())
        }),
        ..BASE
    },
    Flag {
        long: "one-off",
        short: Some('1'),
        modes: Modes::PASST,
        group: Group::Hypervisor,
        help: "End when the hypervisor disconnects",
        default: Some("wait for the next one, and keep connections for it"),
        action: Action::Switch(|said| said.one_off = true),
        ..BASE
    },
];
