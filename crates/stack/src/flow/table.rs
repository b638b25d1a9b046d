//! Flows of one kind, by number and by tuple.

use std::collections::HashMap;

use super::{FlowKey, Secret, Slab, Slot};

/// What a [`FlowId`] numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowKind {
    /// A TCP connection.
    Tcp,
    /// A UDP exchange between one pair of endpoints.
    Udp,
    /// Echo requests with one identifier.
    Ping,
}

/// Names a flow for its lifetime. A number is used again only with another generation, so an event that
/// was already on its way when a flow ended finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(u64);

impl FlowId {
    const KIND_SHIFT: u32 = Slot::BITS;

    fn new(kind: FlowKind, slot: Slot) -> Self {
        let kind = match kind {
            FlowKind::Tcp => 1,
            FlowKind::Udp => 2,
            FlowKind::Ping => 3,
        };
        Self(kind << Self::KIND_SHIFT | slot.to_bits())
    }

    /// As a number below 2^62, for use as an epoll cookie; numbers below 2^60 and from 2^62 on are free
    /// for other uses.
    pub fn to_cookie(self) -> u64 {
        self.0
    }

    /// The flow that this cookie stands for, or `None` if it is none of a flow.
    pub fn from_cookie(cookie: u64) -> Option<Self> {
        matches!(cookie >> Self::KIND_SHIFT, 1..=3).then_some(Self(cookie))
    }

    /// What kind of flow this is.
    pub fn kind(self) -> FlowKind {
        match self.0 >> Self::KIND_SHIFT {
            1 => FlowKind::Tcp,
            2 => FlowKind::Udp,
            _ => FlowKind::Ping,
        }
    }

    fn slot(self) -> Slot {
        Slot::from_bits(self.0)
    }
}

/// All flows of one kind. Look-ups by number are array accesses, by tuple one keyed hash.
#[derive(Debug)]
pub struct FlowTable<T> {
    kind: FlowKind,
    flows: Slab<(FlowKey, T)>,
    by_key: HashMap<FlowKey, Slot, Secret>,
}

impl<T> FlowTable<T> {
    /// More flows than file descriptors a process can have: a bound on memory.
    pub const CAPACITY: usize = 1 << 20;

    /// An empty table.
    pub fn new(kind: FlowKind, secret: Secret) -> Self {
        Self { kind, flows: Slab::default(), by_key: HashMap::with_hasher(secret) }
    }

    /// Number of flows.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Adds a flow made by `make`, which is told its number. `None` if the tuple is taken or the table is
    /// full; an error of `make` leaves the table as it was.
    pub fn try_insert_with<E>(
        &mut self,
        key: FlowKey,
        make: impl FnOnce(FlowId) -> Result<T, E>,
    ) -> Option<Result<FlowId, E>> {
        if self.by_key.len() >= Self::CAPACITY || self.by_key.contains_key(&key) {
            return None;
        }
        let kind = self.kind;
        let inserted =
            self.flows.try_insert_with(|slot| Ok((key, make(FlowId::new(kind, slot))?)))?;
        Some(inserted.map(|slot| {
            self.by_key.insert(key, slot);
            FlowId::new(kind, slot)
        }))
    }

    /// The number of the flow with this tuple.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        self.by_key.get(key).map(|slot| FlowId::new(self.kind, *slot))
    }

    /// The flow with this number, if it still lives.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        self.entry_mut(id).map(|(_, flow)| flow)
    }

    /// Tuple and flow with this number, if it still lives.
    pub fn entry_mut(&mut self, id: FlowId) -> Option<(&FlowKey, &mut T)> {
        self.flows.get_mut(id.slot()).map(|(key, flow)| (&*key, flow))
    }

    /// Every flow.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.flows.values_mut().map(|(_, flow)| flow)
    }

    /// Removes a flow and hands it back.
    pub fn remove(&mut self, id: FlowId) -> Option<(FlowKey, T)> {
        let (key, flow) = self.flows.remove(id.slot())?;
        self.by_key.remove(&key);
        Some((key, flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey::new(
            (std::net::Ipv4Addr::LOCALHOST, port).into(),
            (std::net::Ipv4Addr::LOCALHOST, 1).into(),
        )
    }

    fn insert(table: &mut FlowTable<u16>, port: u16) -> Option<FlowId> {
        table.try_insert_with(key(port), |_| Ok::<_, ()>(port)).map(|r| r.unwrap())
    }

    #[test]
    fn numbers_are_not_reused_for_another_flow() {
        let mut table = FlowTable::new(FlowKind::Tcp, Secret::new([7; 16]));
        let first = insert(&mut table, 1).unwrap();
        assert_eq!(insert(&mut table, 1), None);
        assert_eq!(table.remove(first).map(|(_, flow)| flow), Some(1));
        let second = insert(&mut table, 2).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 2));
        assert_eq!(table.find(&key(1)), None);
        assert_eq!(table.find(&key(2)), Some(second));
        assert_eq!(FlowId::from_cookie(second.to_cookie()), Some(second));
        assert_eq!(FlowId::from_cookie(17), None);
    }

    #[test]
    fn a_failed_insert_leaves_no_trace() {
        let mut table: FlowTable<u16> = FlowTable::new(FlowKind::Udp, Secret::new([7; 16]));
        assert_eq!(table.try_insert_with(key(1), |_| Err("no socket")), Some(Err("no socket")));
        assert!(table.is_empty());
        assert_eq!(insert(&mut table, 1).unwrap().kind(), FlowKind::Udp);
        assert_eq!(table.len(), 1);
    }
}
