//! Where a NIC goes in each kind of machine.

use serde_json::{Value, json};

use super::device::{Device, Syntax, properties};

/// Kinds of machines, as far as the addresses of devices are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Machine {
    /// PCI Express, `pc-q35` and others: each device has a bus of its own, behind a root port.
    #[default]
    Q35,
    /// PCI, `pc` and `pc-`: all devices are on one bus.
    Pc,
    /// Channel devices, `s390-ccw`.
    S390,
}

impl Machine {
    /// The kind in the value of `-machine`, if it names a machine.
    pub(super) fn named(value: &str) -> Option<Self> {
        let (_, name) = properties(value, "type").into_iter().rfind(|(name, _)| name == "type")?;
        Some(if name.starts_with("pc-q35") {
            Self::Q35
        } else if name == "pc" || name.starts_with("pc-") {
            Self::Pc
        } else if name.starts_with("s390-ccw") {
            Self::S390
        } else {
            Self::Q35
        })
    }

    /// The first address that none of `devices` has.
    pub(super) fn free(self, devices: &[Device]) -> Option<Address> {
        let mut candidates = match self {
            Self::Q35 => 3..31,
            Self::Pc => 2..31,
            Self::S390 => 1..16,
        };
        let number = candidates.find(|number| {
            let address = Address { machine: self, number: *number };
            !devices.iter().any(|device| address.is_of(device))
        })?;
        Some(Address { machine: self, number })
    }
}

/// The address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    machine: Machine,
    number: u32,
}

impl Address {
    fn is_of(self, device: &Device) -> bool {
        let bus = device.bus.as_deref();
        match self.machine {
            // Nothing else fits behind a root port, whatever slot is said.
            Machine::Q35 => bus == Some(&format!("pci.{}", self.number)),
            Machine::Pc => bus.is_none_or(|bus| bus == "pci.0") && device.slot == Some(self.number),
            Machine::S390 => device.devno == Some(self.number),
        }
    }

    /// The value of `-device` for a NIC here, connected to `netdev`.
    pub(super) fn nic(self, netdev: &str, syntax: Syntax) -> String {
        /// So many packets go out before the guest gets to run: as many as it has buffers for.
        const TX_BURST: u32 = 4096;
        let number = self.number;
        let (driver, mut place) = match self.machine {
            Machine::Q35 => {
                ("virtio-net-pci", vec![("bus", format!("pci.{number}")), ("addr", "0x0".into())])
            }
            Machine::Pc => {
                ("virtio-net-pci", vec![("bus", "pci.0".into()), ("addr", format!("{number:#x}"))])
            }
            Machine::S390 => ("virtio-net-ccw", vec![("devno", format!("fe.0.{number:x}"))]),
        };
        place.push(("netdev", netdev.to_owned()));
        match syntax {
            Syntax::Plain => {
                let place: String =
                    place.iter().map(|(name, value)| format!(",{name}={value}")).collect();
                format!("{driver}{place},x-txburst={TX_BURST}")
            }
            Syntax::Json => {
                let mut object = json!({ "driver": driver, "x-txburst": TX_BURST });
                for (name, value) in place {
                    object[name] = Value::String(value);
                }
                object.to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(values: &[&str]) -> Vec<Device> {
        values.iter().map(|value| Device::parse(value)).collect()
    }

    /// The plain form of a NIC, up to what is always the same.
    fn nic(machine: Machine, values: &[&str]) -> Option<String> {
        let nic = machine.free(&devices(values))?.nic("hostnet0", Syntax::Plain);
        Some(nic.strip_suffix(",netdev=hostnet0,x-txburst=4096").unwrap().to_owned())
    }

    #[test]
    fn names() {
        for (value, machine) in [
            ("pc-q35-6.2", Some(Machine::Q35)),
            ("pc-q35-rhel8.5.0,usb=off", Some(Machine::Q35)),
            ("q35", Some(Machine::Q35)),
            ("pc", Some(Machine::Pc)),
            ("pc,accel=kvm", Some(Machine::Pc)),
            ("pc-i440fx-6.2,accel=kvm", Some(Machine::Pc)),
            ("accel=kvm,type=pc-1.0", Some(Machine::Pc)),
            ("s390-ccw-virtio-6.2", Some(Machine::S390)),
            ("virt", Some(Machine::Q35)),
            ("pcx", Some(Machine::Q35)),
            ("accel=kvm", None),
        ] {
            assert_eq!(Machine::named(value), machine, "{value}");
        }
    }

    #[test]
    fn the_first_free_address() {
        let at = |nic: &str| Some(nic.to_owned());
        let q35 = |values: &[&str]| nic(Machine::Q35, values);
        assert_eq!(q35(&[]), at("virtio-net-pci,bus=pci.3,addr=0x0"));
        assert_eq!(q35(&["x,bus=pci.4,addr=0x0"]), at("virtio-net-pci,bus=pci.3,addr=0x0"));
        let used = ["x,addr=0x0,bus=pci.3", "pcie-root-port,id=pci.5,bus=pcie.0", "x,bus=pci.4"];
        assert_eq!(q35(&used), at("virtio-net-pci,bus=pci.5,addr=0x0"));
        assert_eq!(q35(&["x,bus=pci.30", "x,bus=pci.0"]), at("virtio-net-pci,bus=pci.3,addr=0x0"));

        let pc = |values: &[&str]| nic(Machine::Pc, values);
        assert_eq!(pc(&[]), at("virtio-net-pci,bus=pci.0,addr=0x2"));
        let used = ["x,bus=pci.0,addr=0x2", "x,addr=3", r#"{"bus":"pci.0","addr":"0x4.0x1"}"#];
        assert_eq!(pc(&used), at("virtio-net-pci,bus=pci.0,addr=0x5"));
        assert_eq!(pc(&["x,bus=pci.1,addr=0x2"]), at("virtio-net-pci,bus=pci.0,addr=0x2"));

        let s390 = |values: &[&str]| nic(Machine::S390, values);
        assert_eq!(s390(&[]), at("virtio-net-ccw,devno=fe.0.1"));
        assert_eq!(s390(&["x,devno=fe.0.0001"]), at("virtio-net-ccw,devno=fe.0.2"));
    }

    #[test]
    fn the_last_free_address_and_none() {
        for (machine, used, last) in [
            (Machine::Q35, 3..30, "virtio-net-pci,bus=pci.30,addr=0x0"),
            (Machine::Pc, 2..30, "virtio-net-pci,bus=pci.0,addr=0x1e"),
            (Machine::S390, 1..15, "virtio-net-ccw,devno=fe.0.f"),
        ] {
            let mut values: Vec<String> =
                used.map(|number| Address { machine, number }.nic("n", Syntax::Plain)).collect();
            let all = |values: &[String]| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                nic(machine, &values)
            };
            assert_eq!(all(&values).as_deref(), Some(last));
            values.push(last.to_owned());
            assert_eq!(all(&values), None, "{machine:?}");
        }
    }

    #[test]
    fn json_says_the_same() {
        for (machine, wanted) in [
            (
                Machine::Q35,
                json!({"driver": "virtio-net-pci", "bus": "pci.3", "addr": "0x0",
                       "netdev": "hostnet0", "x-txburst": 4096}),
            ),
            (
                Machine::Pc,
                json!({"driver": "virtio-net-pci", "bus": "pci.0", "addr": "0x2",
                       "netdev": "hostnet0", "x-txburst": 4096}),
            ),
            (
                Machine::S390,
                json!({"driver": "virtio-net-ccw", "devno": "fe.0.1",
                       "netdev": "hostnet0", "x-txburst": 4096}),
            ),
        ] {
            let address = machine.free(&[]).unwrap();
            let [plain, json] =
                [Syntax::Plain, Syntax::Json].map(|syntax| address.nic("hostnet0", syntax));
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), wanted);
            assert_eq!(Device::parse(&json), Device::parse(&plain));
            assert!(address.is_of(&Device::parse(&json)));
        }
    }
}
