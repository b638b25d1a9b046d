//! The filters of system calls that a running program has, and what they make of a call.

use crate::SHORT;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use sys::seccomp::inspect::{Instruction, filters_of};
use sys::seccomp::{Call, OF_DEBUG_BUILDS};
use testkit::wait_for;

/// Calls have numbers up to this at least.
const NUMBERS: u32 = 600;
/// `__X32_SYSCALL_BIT` of x86_64.
const X32: u32 = 0x4000_0000;
/// What a filter says: the two answers there are to be.
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// `AUDIT_ARCH_*`, ours first.
const ARCHITECTURES: [u32; 5] = [
    if cfg!(target_arch = "x86_64") {
        0xc000_003e
    } else if cfg!(target_arch = "aarch64") {
        0xc000_00b7
    } else {
        0xc000_00f3
    },
    // i386, arm, and ours with the other byte order or word size.
    0x4000_0003,
    0x4000_0028,
    0x8000_003e,
    0x0000_003e,
];

/// One call, as a filter sees it (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// For which architecture, `AUDIT_ARCH_*`.
    pub architecture: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Attempt {
    /// A call of our own architecture.
    pub fn new(number: u32, arguments: [u64; 6]) -> Self {
        Self { number, architecture: ARCHITECTURES[0], arguments }
    }

    fn word(&self, offset: u32) -> Result<u32> {
        let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
        Ok(match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0,
            _ => {
                let at = usize::try_from(offset - 16)?;
                let value = *self.arguments.get(at / 8).context("behind the arguments")?;
                // The low half comes first: we run on little-endian machines alone.
                match at % 8 {
                    0 => low(value),
                    4 => low(value >> 32),
                    _ => bail!("a load from {offset}"),
                }
            }
        })
    }
}

/// Runs a filter: what it answers. Knows the part of classic BPF that filters here are made of.
pub fn answer(filter: &[Instruction], attempt: &Attempt) -> Result<u32> {
    let (mut at, mut accumulator) = (0, 0_u32);
    // Jumps lead forward only.
    while let Some(instruction) = filter.get(at) {
        let constant = instruction.constant;
        at += 1;
        let jump = match instruction.code {
            // BPF_LD | BPF_W | BPF_ABS
            0x20 => {
                accumulator = attempt.word(constant)?;
                0
            }
            // BPF_ALU | BPF_AND | BPF_K
            0x54 => {
                accumulator &= constant;
                0
            }
            // BPF_JMP | BPF_JA, and by BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET
            0x05 => usize::try_from(constant)?,
            0x15 => branch(instruction, accumulator == constant),
            0x25 => branch(instruction, accumulator > constant),
            0x35 => branch(instruction, accumulator >= constant),
            0x45 => branch(instruction, accumulator & constant != 0),
            // BPF_RET | BPF_K
            0x06 => return Ok(constant),
            other => bail!("instruction {other:#x}"),
        };
        at += jump;
    }
    bail!("a filter without an end")
}

fn branch(instruction: &Instruction, holds: bool) -> usize {
    usize::from(if holds { instruction.jump_true } else { instruction.jump_false })
}

/// A thread and its filters.
#[derive(Debug)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u32,
    filters: Vec<Vec<Instruction>>,
}

/// All threads of a process, once each has a filter.
pub fn threads(pid: u32) -> Result<Vec<Thread>> {
    let ids = || -> Result<Vec<u32>> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
        tasks.map(|task| Ok(task?.file_name().to_string_lossy().parse()?)).collect()
    };
    let confined = |id: &u32| -> Result<bool> {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{id}/status"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        Ok(field("Seccomp:\t") == Some("2") && field("NoNewPrivs:\t") == Some("1"))
    };
    let ids = wait_for("a filter for each thread", SHORT, || {
        let ids = ids()?;
        let all = ids.iter().map(confined).collect::<Result<Vec<bool>>>()?;
        Ok(all.iter().all(|confined| *confined).then_some(ids))
    })?;
    ids.into_iter()
        .map(|id| {
            let name = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"))?.trim().to_owned();
            let filters = filters_of(id).with_context(|| format!("filters of {name}"))?;
            ensure!(!filters.is_empty(), "{name} has no filter");
            Ok(Thread { name, id, filters })
        })
        .collect()
}

impl Thread {
    /// Whether a call passes. All others are to end the process.
    pub fn allows(&self, attempt: &Attempt) -> Result<bool> {
        let mut allowed = true;
        for filter in &self.filters {
            match answer(filter, attempt)? {
                ALLOW => {}
                KILL_PROCESS => allowed = false,
                other => bail!("{}: {attempt:x?} is answered {other:#x}", self.name),
            }
        }
        Ok(allowed)
    }

    /// Checks that exactly the calls of `table` pass, with arguments that it wants, no more than `limit` of them,
    /// and none in another way of counting.
    pub fn check(&self, table: &[Call], limit: usize) -> Result<()> {
        // The programs are release builds, these tests need not be.
        let shipped = |call: &&Call| call.why != OF_DEBUG_BUILDS;
        let table: Vec<Call> = table.iter().filter(shipped).copied().collect();
        let number = |call: &Call| Ok::<_, anyhow::Error>(u32::try_from(call.number)?);
        let wanted: BTreeSet<u32> = table.iter().map(number).collect::<Result<_>>()?;
        let mut tried = arguments(&table);
        for call in table.iter().filter(|call| call.arguments.is_empty()) {
            // Whatever the arguments are.
            for arguments in &tried {
                let attempt = Attempt::new(number(call)?, *arguments);
                ensure!(self.allows(&attempt)?, "{}: {} with {attempt:x?}", self.name, call.name);
            }
        }
        tried.extend(random(64));
        let mut allowed = BTreeSet::new();
        for number in (0..=NUMBERS).chain([u32::MAX, i32::MAX.unsigned_abs()]) {
            for arguments in &tried {
                if self.allows(&Attempt::new(number, *arguments))? {
                    allowed.insert(number);
                }
                let x32 = Attempt::new(number | X32, *arguments);
                ensure!(!self.allows(&x32)?, "{}: x32 {number}", self.name);
                for architecture in ARCHITECTURES.into_iter().skip(1) {
                    let foreign = Attempt { architecture, ..Attempt::new(number, *arguments) };
                    ensure!(!self.allows(&foreign)?, "{}: foreign {number}", self.name);
                }
            }
        }
        let names = |numbers: Vec<&u32>| -> Vec<String> {
            let name = |number: u32| {
                let call = table.iter().find(|call| call.number == i64::from(number));
                call.map_or_else(|| number.to_string(), |call| call.name.to_owned())
            };
            numbers.into_iter().map(|number| name(*number)).collect()
        };
        let more = names(allowed.difference(&wanted).collect());
        let less = names(wanted.difference(&allowed).collect());
        let name = &self.name;
        ensure!(more.is_empty() && less.is_empty(), "{name}: more {more:?}, less {less:?}");
        ensure!(allowed.len() <= limit, "{name}: {} calls, at most {limit}", allowed.len());
        Ok(())
    }
}

/// Arguments that the lines of a table want, and such as nobody wants.
fn arguments(table: &[Call]) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6], [1; 6]];
    for alternative in table.iter().flat_map(|call| call.arguments) {
        let mut arguments = [0; 6];
        for argument in *alternative {
            if let Some(place) = arguments.get_mut(usize::from(argument.index)) {
                *place = u64::from(argument.value);
            }
        }
        all.push(arguments);
    }
    all
}

/// Numbers that are the same each time (xorshift), small ones and large ones.
fn random(count: usize) -> impl Iterator<Item = [u64; 6]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state % 3 == 0 { state } else { state >> 52 }
    };
    std::iter::repeat_with(move || std::array::from_fn(|_| next())).take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, constant: u32, jumps: (u8, u8)) -> Instruction {
        Instruction { code, jump_true: jumps.0, jump_false: jumps.1, constant }
    }

    #[test]
    fn filters_run() {
        let filter = [
            instruction(0x20, 4, (0, 0)),
            instruction(0x15, ARCHITECTURES[0], (1, 0)),
            instruction(0x06, KILL_PROCESS, (0, 0)),
            instruction(0x20, 24, (0, 0)),
            instruction(0x54, 0xf0, (0, 0)),
            instruction(0x15, 0x20, (0, 2)),
            instruction(0x05, 0, (0, 0)),
            instruction(0x06, ALLOW, (0, 0)),
            instruction(0x06, KILL_PROCESS, (0, 0)),
        ];
        let ask = |attempt| answer(&filter, &attempt).unwrap();
        assert_eq!(ask(Attempt::new(1, [0, 0x12f, 0, 0, 0, 0])), ALLOW);
        assert_eq!(ask(Attempt::new(1, [0x20, 0x30, 0, 0, 0, 0])), KILL_PROCESS);
        let foreign = Attempt { architecture: 1, ..Attempt::new(1, [0, 0x20, 0, 0, 0, 0]) };
        assert_eq!(ask(foreign), KILL_PROCESS);
        assert!(answer(&filter[..1], &Attempt::default()).is_err(), "no end");
        assert!(answer(&[instruction(0x07, 0, (0, 0))], &Attempt::default()).is_err());
    }
}
