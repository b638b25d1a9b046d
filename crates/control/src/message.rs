//! Lists of tables, both ways.

use stack::rule::{Capabilities, MAX_RULES, Pif, Rule, RuleError, Table};
use zerocopy::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::capability;
use crate::hello::{Hello, HelloError, PIF_NAME_LEN};
use crate::record::{RecordError, RuleRecord};

/// What stands in the place of a number when no table follows.
pub(crate) const END: u8 = 0;

/// The rules for flows that begin on one interface, and what they may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PifTable {
    /// Where the flows begin.
    pub pif: Pif,
    /// What the server can do there.
    pub caps: Capabilities,
    /// The rules.
    pub table: Table,
}

/// What the server says about a table, behind its number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct TableHeader {
    /// Ended and filled by zeros.
    pub(crate) name: [u8; PIF_NAME_LEN],
    pub(crate) capabilities: U32,
    /// Number of rules that follow.
    pub(crate) rules: U32,
}

const _: () = assert!(size_of::<TableHeader>() == 136);

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server cannot be understood.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The server has a table that is not known here: its number and its name.
    #[error("Unknown table {1} (PIF {0}) in the configuration")]
    UnknownTable(u8, String),
    /// The client sent rules for a number without a table.
    #[error("Received rules for non-existent table (PIF {0})")]
    NoTable(u8),
    /// A table came twice.
    #[error("Received rules for table {} twice", .0.name())]
    Duplicate(Pif),
    /// More rules than a table has room for.
    #[error("Too many rules for table {}: {count} (maximum {MAX_RULES})", .pif.name())]
    TooManyRules {
        /// The table.
        pif: Pif,
        /// How many.
        count: u32,
    },
    /// Bytes that are no rule.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A rule that cannot stand in its table.
    #[error("{1}\nUnable to add rule {0}")]
    Rule(Box<Rule>, RuleError),
    /// Bytes behind the end of the message, or behind an error.
    #[error("Data behind the end of a message")]
    Behind,
}

/// What a server sends: the hello and its tables, in the order of their numbers.
#[must_use]
pub fn encode_configuration(tables: &[PifTable]) -> Vec<u8> {
    let mut message = Hello::CURRENT.as_bytes().to_vec();
    for entry in in_order(tables) {
        let mut name = [0; PIF_NAME_LEN];
        name.iter_mut().zip(entry.pif.name().bytes()).for_each(|(to, from)| *to = from);
        let header = TableHeader {
            name,
            capabilities: U32::new(capability::to_bits(entry.caps)),
            rules: count(&entry.table),
        };
        message.push(entry.pif.number());
        message.extend_from_slice(header.as_bytes());
        rules(&mut message, &entry.table);
    }
    message.push(END);
    message
}

/// What a client sends: the tables that shall replace those of the server, in the order of their
/// numbers.
#[must_use]
pub fn encode_update(tables: &[PifTable]) -> Vec<u8> {
    let mut message = Vec::new();
    for entry in in_order(tables) {
        message.push(entry.pif.number());
        message.extend_from_slice(count(&entry.table).as_bytes());
        rules(&mut message, &entry.table);
    }
    message.push(END);
    message
}

fn in_order(tables: &[PifTable]) -> Vec<&PifTable> {
    let mut tables: Vec<_> = tables.iter().collect();
    tables.sort_by_key(|entry| entry.pif.number());
    tables
}

fn count(table: &Table) -> U32 {
    // A table does not have more than MAX_RULES.
    U32::new(u32::try_from(table.rules().len()).unwrap_or(u32::MAX))
}

fn rules(message: &mut Vec<u8>, table: &Table) {
    for rule in table.rules() {
        message.extend_from_slice(RuleRecord::from(rule).as_bytes());
    }
}
