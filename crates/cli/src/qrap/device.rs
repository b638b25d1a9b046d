//! Values of QEMU's options, as far as they say something about networks and addresses.
//!
//! What cannot be read is QEMU's business: it stays on the command line, and QEMU complains.

use serde_json::{Map, Value};

/// NICs, whether or not they are connected to anything.
const NICS: [&str; 5] = ["virtio-net-pci", "virtio-net-ccw", "e1000", "e1000e", "rtl8139"];

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Syntax {
    /// `driver,name=value`
    #[default]
    Plain,
    /// `{"driver":"driver","name":"value"}`
    Json,
}

impl Syntax {
    /// That of a value, decided as QEMU does.
    pub(super) fn of(value: &str) -> Self {
        if value.starts_with('{') { Self::Json } else { Self::Plain }
    }
}

/// What the value of `-device` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    driver: String,
    connected: bool,
    /// The bus, if one is named.
    pub(super) bus: Option<String>,
    /// The slot on a PCI bus.
    pub(super) slot: Option<u32>,
    /// The number of a channel device on the channel subsystem for virtio.
    pub(super) devno: Option<u32>,
}

impl Device {
    pub(super) fn parse(value: &str) -> Self {
        match Syntax::of(value) {
            Syntax::Plain => {
                let mut device = Self::default();
                for (name, value) in properties(value, "driver") {
                    device.set(&name, &Value::String(value));
                }
                device
            }
            Syntax::Json => {
                let object: Map<String, Value> = serde_json::from_str(value).unwrap_or_default();
                let mut device = Self::default();
                object.iter().for_each(|(name, value)| device.set(name, value));
                device
            }
        }
    }

    fn set(&mut self, name: &str, value: &Value) {
        let text = value.as_str();
        match name {
            "driver" => text.unwrap_or_default().clone_into(&mut self.driver),
            "netdev" => self.connected = true,
            "bus" => self.bus = text.map(str::to_owned),
            // A number is slot and function in one: three bits are the function's.
            "addr" => self.slot = text.map_or_else(|| devfn(value), slot),
            "devno" => self.devno = text.and_then(devno),
            _ => {}
        }
    }

    /// Whether it is a NIC of the guest: by its name, or because it is connected to what `-netdev` makes.
    pub(super) fn is_nic(&self) -> bool {
        self.connected || NICS.contains(&self.driver.as_str())
    }
}

/// The properties in a plain value, whose first one needs no name. A comma in a value is written twice.
pub(super) fn properties(value: &str, first: &str) -> Vec<(String, String)> {
    let mut items = vec![String::new()];
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match items.last_mut() {
            Some(item) if char != ',' || chars.next_if_eq(&',').is_some() => item.push(char),
            Some(_) | None => items.push(String::new()),
        }
    }
    let named = |(index, item): (usize, String)| match item.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None if index == 0 => (first.to_owned(), item),
        None => (item, "on".to_owned()),
    };
    items.into_iter().enumerate().map(named).collect()
}

/// Slot in `SLOT` or `SLOT.FUNCTION`, hexadecimal with or without `0x`.
fn slot(text: &str) -> Option<u32> {
    let (slot, _) = text.split_once('.').unwrap_or((text, ""));
    hex(slot)
}

fn devfn(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number >> 3).ok())
}

/// Device number in `CSSID.SSID.DEVNO`, all hexadecimal, if it is on the subsystem for virtio, `fe.0`.
fn devno(text: &str) -> Option<u32> {
    let parts: Option<Vec<u32>> = text.split('.').map(hex).collect();
    match parts?.as_slice() {
        [0xfe, 0, devno] => Some(*devno),
        _ => None,
    }
}

fn hex(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_as_qemu_does() {
        let split = |value| {
            let properties = properties(value, "driver");
            properties.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(";")
        };
        assert_eq!(split("e1000"), "driver=e1000");
        assert_eq!(split("e1000,mac=1,on"), "driver=e1000;mac=1;on=on");
        assert_eq!(split("id=a,driver=e1000"), "id=a;driver=e1000");
        assert_eq!(split("x,path=/a,,b,c=d=e"), "driver=x;path=/a,b;c=d=e");
        assert_eq!(split("x,,,y=1"), "driver=x,;y=1");
        assert_eq!(split(""), "driver=");
    }

    #[test]
    fn nics() {
        for nic in [
            "virtio-net-pci,netdev=n",
            "virtio-net-ccw,devno=fe.0.0001",
            "e1000,mac=52:54:00:12:34:56",
            "e1000e,",
            "rtl8139",
            "driver=e1000,id=n",
            "netdev=n,driver=virtio-net-device",
            "virtio-net-pci-transitional,netdev=n",
            r#"{"driver":"virtio-net-pci","netdev":"n","mac":"52:54:00:12:34:56"}"#,
            r#"{ "id": "n", "driver": "e1000e" }"#,
            r#"{"driver":"usb-net","netdev":"n"}"#,
        ] {
            assert!(Device::parse(nic).is_nic(), "{nic}");
        }
        for other in [
            "e1000f,addr=0x2",
            "e1000e-82574l",
            "virtio-net",
            "virtio-blk-pci,drive=virtio-net-pci",
            "virtio-rng-pci,id=e1000,,netdev=x",
            r#"{"driver":"virtio-blk-pci","id":"e1000"}"#,
            r#"{"driver":"virtio-net-pci""#,
            r#"{"driver":["e1000"]}"#,
            "{}",
            "",
        ] {
            assert!(!Device::parse(other).is_nic(), "{other}");
        }
    }

    #[test]
    fn addresses() {
        let at = |value: &str| {
            let Device { bus, slot, devno, .. } = Device::parse(value);
            (bus, slot, devno)
        };
        let pci = |bus: &str, slot| (Some(bus.to_owned()), Some(slot), None);
        assert_eq!(at("x,bus=pci.3,addr=0x0"), pci("pci.3", 0));
        assert_eq!(at("x,addr=1e.7,bus=pci.0"), pci("pci.0", 0x1e));
        assert_eq!(at("x,bus=pci.0,addr=0X1D.0x1,multifunction=on"), pci("pci.0", 0x1d));
        assert_eq!(at(r#"{"driver":"x","bus":"pci.3","addr":"0x0"}"#), pci("pci.3", 0));
        assert_eq!(at(r#"{"driver":"x","bus":"pci.3","addr":17}"#), pci("pci.3", 2));
        assert_eq!(at("x,addr=0x2"), (None, Some(2), None));
        assert_eq!(at("x,addr=here"), (None, None, None));
        assert_eq!(at("x,devno=fe.0.000f"), (None, None, Some(15)));
        assert_eq!(at(r#"{"driver":"x","devno":"fe.0.1"}"#), (None, None, Some(1)));
        for elsewhere in ["x,devno=fd.0.1", "x,devno=fe.1.1", "x,devno=fe.0", "x,devno=1"] {
            assert_eq!(at(elsewhere), (None, None, None), "{elsewhere}");
        }
    }
}
