//! Decoders that take a message in pieces, as it comes, and hold no more of it than its tables.

use stack::rule::{Capabilities, MAX_RULES, Pif, Table};
use zerocopy::network_endian::U32;
use zerocopy::{FromBytes, Unaligned};

use crate::capability;
use crate::hello::Hello;
use crate::message::{END, Error, PifTable, TableHeader};
use crate::record::RuleRecord;

/// Reads what a server sends.
#[derive(Debug, Default)]
pub struct ConfigurationDecoder {
    begun: Begun,
    state: ConfigurationState,
    tables: Vec<PifTable>,
}

#[derive(Clone, Copy, Debug, Default)]
enum ConfigurationState {
    /// At the start.
    #[default]
    Hello,
    /// Before the number of a table, or the end.
    Number,
    /// Behind the number of a table.
    Header(u8),
    /// In the last one of the tables, with so many rules to come.
    Rules(u32),
    /// Behind the end or an error.
    Over,
}

impl ConfigurationDecoder {
    /// A decoder for one message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input`: all of them, or up to the end of the message. Returns
    /// the tables once they are complete, in the order in which they came.
    ///
    /// # Errors
    /// If this is no configuration of a server, and for bytes behind its end.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Vec<PifTable>>, Error> {
        let result = self.advance(input);
        if !matches!(result, Ok(None)) {
            self.state = ConfigurationState::Over;
        }
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Vec<PifTable>>, Error> {
        while !input.is_empty() {
            match self.state {
                ConfigurationState::Hello => {
                    let Some(hello) = self.begun.record::<Hello>(input) else { break };
                    hello.check()?;
                    self.state = ConfigurationState::Number;
                }
                ConfigurationState::Number => match self.begun.record(input) {
                    None => break,
                    Some(END) => return Ok(Some(std::mem::take(&mut self.tables))),
                    Some(number) => self.state = ConfigurationState::Header(number),
                },
                ConfigurationState::Header(number) => {
                    let Some(header) = self.begun.record::<TableHeader>(input) else { break };
                    let pif = known(number, &header)?;
                    if self.tables.iter().any(|entry| entry.pif == pif) {
                        return Err(Error::Duplicate(pif));
                    }
                    let caps = capability::from_bits(header.capabilities.get());
                    self.tables.push(PifTable { pif, caps, table: Table::default() });
                    self.state = ConfigurationState::Rules(admitted(pif, header.rules.get())?);
                }
                ConfigurationState::Rules(0) => self.state = ConfigurationState::Number,
                ConfigurationState::Rules(left) => {
                    let Some(record) = self.begun.record(input) else { break };
                    if let Some(entry) = self.tables.last_mut() {
                        add(entry, &record)?;
                    }
                    self.state = ConfigurationState::Rules(left.saturating_sub(1));
                }
                ConfigurationState::Over => return Err(Error::Behind),
            }
        }
        Ok(None)
    }
}

/// Reads what a client sends.
#[derive(Debug)]
pub struct UpdateDecoder {
    begun: Begun,
    state: UpdateState,
    /// The table of every interface of the server; empty until its rules come.
    tables: Vec<PifTable>,
    /// Whose rules came.
    seen: Vec<Pif>,
    started: bool,
}

#[derive(Clone, Copy, Debug)]
enum UpdateState {
    /// Before the number of a table, or the end.
    Number,
    /// Behind the number of a table.
    Count(Pif),
    /// In a table, with so many rules to come.
    Rules(Pif, u32),
    /// Behind the end or an error.
    Over,
}

impl UpdateDecoder {
    /// A decoder for one message to a server with these tables, each with what it can do there.
    pub fn new(server: impl IntoIterator<Item = (Pif, Capabilities)>) -> Self {
        let empty = |(pif, caps)| PifTable { pif, caps, table: Table::default() };
        Self {
            begun: Begun::default(),
            state: UpdateState::Number,
            tables: server.into_iter().map(empty).collect(),
            seen: Vec::new(),
            started: false,
        }
    }

    /// Whether there was any byte. A client that ends its stream before has only read.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started
    }

    /// Takes bytes from the front of `input`: all of them, or up to the end of the message. Once it is
    /// complete, returns all tables of the server as they shall be; those that were not sent are
    /// empty.
    ///
    /// # Errors
    /// If this is no update or one that asks for something impossible, and for bytes behind its end.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Vec<PifTable>>, Error> {
        let result = self.advance(input);
        if !matches!(result, Ok(None)) {
            self.state = UpdateState::Over;
        }
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Vec<PifTable>>, Error> {
        self.started |= !input.is_empty();
        while !input.is_empty() {
            match self.state {
                UpdateState::Number => match self.begun.record(input) {
                    None => break,
                    Some(END) => return Ok(Some(std::mem::take(&mut self.tables))),
                    Some(number) => self.state = UpdateState::Count(self.wanted(number)?),
                },
                UpdateState::Count(pif) => {
                    let Some(count) = self.begun.record::<U32>(input) else { break };
                    self.state = UpdateState::Rules(pif, admitted(pif, count.get())?);
                }
                UpdateState::Rules(_, 0) => self.state = UpdateState::Number,
                UpdateState::Rules(pif, left) => {
                    let Some(record) = self.begun.record(input) else { break };
                    if let Some(entry) = self.tables.iter_mut().find(|entry| entry.pif == pif) {
                        add(entry, &record)?;
                    }
                    self.state = UpdateState::Rules(pif, left.saturating_sub(1));
                }
                UpdateState::Over => return Err(Error::Behind),
            }
        }
        Ok(None)
    }

    /// The interface with this number, whose rules come for the first time.
    fn wanted(&mut self, number: u8) -> Result<Pif, Error> {
        let pif = self
            .tables
            .iter()
            .map(|entry| entry.pif)
            .find(|pif| pif.number() == number)
            .ok_or(Error::NoTable(number))?;
        if self.seen.contains(&pif) {
            return Err(Error::Duplicate(pif));
        }
        self.seen.push(pif);
        Ok(pif)
    }
}

/// The interface that a server means, by number and name.
fn known(number: u8, header: &TableHeader) -> Result<Pif, Error> {
    let name = header.name.split(|&byte| byte == 0).next().unwrap_or_default();
    Pif::ALL
        .into_iter()
        .find(|pif| pif.number() == number && pif.name().as_bytes() == name)
        .ok_or_else(|| Error::UnknownTable(number, String::from_utf8_lossy(name).into_owned()))
}

/// A number of rules for which there is room.
fn admitted(pif: Pif, count: u32) -> Result<u32, Error> {
    if usize::try_from(count).is_ok_and(|count| count <= MAX_RULES) {
        Ok(count)
    } else {
        Err(Error::TooManyRules { pif, count })
    }
}

fn add(entry: &mut PifTable, record: &RuleRecord) -> Result<(), Error> {
    let rule = record.rule()?;
    // Copied for the message: most rules are good, and there are at most 255 of them.
    let shown = rule.clone();
    entry.table.add(rule, entry.caps).map_err(|error| Error::Rule(Box::new(shown), error))
}

/// Longest part of a message that is looked at as a whole, in bytes.
const LONGEST: usize = size_of::<TableHeader>();

/// The part of a message that has begun and is not complete.
struct Begun {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Default for Begun {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.bytes.get(..self.len).unwrap_or_default())
    }
}

impl Begun {
    /// Moves bytes here until there are enough for a `T`; `None` if `input` ends before.
    fn record<T: FromBytes + Unaligned>(&mut self, input: &mut &[u8]) -> Option<T> {
        const { assert!(size_of::<T>() <= LONGEST) }
        let wanted = self.bytes.get_mut(self.len..size_of::<T>())?;
        let len = wanted.len().min(input.len());
        let (now, later) = input.split_at_checked(len)?;
        wanted.get_mut(..len)?.copy_from_slice(now);
        *input = later;
        self.len += len;
        if self.len < size_of::<T>() {
            return None;
        }
        self.len = 0;
        T::read_from_prefix(&self.bytes).ok().map(|(record, _)| record)
    }
}
