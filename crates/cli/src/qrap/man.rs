//! The manual page.

use std::fmt::Write as _;

use crate::man::{examples, section, title};

const DESCRIPTION: &str = "\
qrap connects to a running passt and executes QEMU with that connection as an open descriptor. Only QEMU \
before version 7.2 needs this: later ones connect to passt themselves, by an option such as -netdev \
stream,id=net0,server=off,addr.type=unix,addr.path=/tmp/passt_1.socket.

passt is looked for at /tmp/passt_1.socket, /tmp/passt_2.socket and so on up to /tmp/passt_64.socket, which \
are the paths that it chooses without an option to say otherwise. The first one that answers is taken. One that \
has a guest already closes the connection; as that guest may just be ending, it is tried again for some \
seconds. The directory is open to everybody: on a machine with several users, make sure that the one \
who answers is your own.

With FDNUM, a number from 3 on, the connection becomes that descriptor, and QEMU_CMD, a path or a name to \
be found in PATH, is executed with its arguments as they are: these have to refer to the descriptor.

Without FDNUM, all arguments are options of QEMU, so that qrap can take its place, as the emulator of a \
libvirt domain, for example. The connection becomes descriptor 5, the arguments are changed as described \
below, and the first of these that there is gets executed: kvm, qemu-kvm, or qemu-system-ARCH in PATH, \
/usr/libexec/qemu-kvm.

Signals, limits and the environment are passed on as they were. There are no options of qrap itself.";

const CHANGES: &str = "\
Dropped are -net and -netdev, and each -device that is a network interface: virtio-net-pci, virtio-net-ccw, \
e1000, e1000e, rtl8139, and every other one that has a property netdev.

Added is -netdev socket,fd=5,id=hostnet0. If there was any -device, a network interface connected to that is \
added as well, at the first address that no other -device has. Its kind and place depend on the option \
-machine. Where that is s390-ccw or begins so, it is a virtio-net-ccw with a device number from fe.0.1 to \
fe.0.f. Where it is pc or begins with pc-, but not with pc-q35, it is a virtio-net-pci on bus pci.0, at an address from \
0x2 to 0x1e. For all other machines, and without the option, it is a virtio-net-pci alone on one of the buses \
pci.3 to pci.30, which have to be there. Devices should have their addresses on the command line, as those of \
libvirt do: addresses that QEMU chooses are not known here.

Where the options that were there are in JSON, those that are added are, too.";

const STATUS: &str = "\
That of QEMU, which takes the place of qrap. Before that, 1 on any error, with a line on standard error, where \
it is also said which sockets were tried.";

const EXAMPLES: [(&str, &str); 2] = [
    (
        "Run a virtual machine whose network is the connection, as descriptor 5:",
        "qrap 5 qemu-system-x86_64 -m 1024 disk.qcow2 -net socket,fd=5 -net nic,model=virtio",
    ),
    (
        "The same, as qrap arranges it:",
        "qrap -machine pc -nodefaults -nographic -serial stdio -m 1024 \
         -drive id=d,if=none,file=disk.qcow2 -device virtio-blk-pci,drive=d,addr=0x3",
    ),
];

/// The manual page of qrap, for section 1.
#[must_use]
pub fn man() -> String {
    let mut page = title("qrap", "run QEMU before 7.2 with a connection to passt");
    // The pieces go to a String, which takes them all.
    let _ = writeln!(
        page,
        ".SH SYNOPSIS\n\
         .B qrap\n\\fIFDNUM\\fR \\fIQEMU_CMD\\fR [\\fIQEMU_ARG\\fR]...\n.br\n\
         .B qrap\n[\\fIQEMU_ARG\\fR]..."
    );
    section(&mut page, "DESCRIPTION", DESCRIPTION);
    section(&mut page, "CHANGES TO THE ARGUMENTS", CHANGES);
    section(&mut page, "EXIT STATUS", STATUS);
    examples(&mut page, &EXAMPLES);
    let _ = writeln!(page, ".SH SEE ALSO\n.BR passt (1),\n.BR qemu (1)");
    page
}
