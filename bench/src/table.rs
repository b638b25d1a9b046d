//! Results: kept raw as they come, and one table of medians at the end.

use crate::args::Args;
use crate::measure::Sample;
use crate::peer::{Peer, Peers};
use crate::proc::TROUBLE;
use crate::rows::{Row, Target};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

/// All runs of a row by one peer: samples, and why the others have none.
#[derive(Debug, Default)]
struct Runs {
    samples: Vec<Sample>,
    failed: Vec<String>,
}

/// Everything measured so far.
#[derive(Debug)]
pub(crate) struct Results {
    dir: PathBuf,
    raw: File,
    runs: BTreeMap<(String, Peer), Runs>,
    /// Rows that cannot be measured on this machine, and why.
    skipped: Vec<(String, String)>,
}

impl Results {
    /// Opens the file of raw figures.
    pub(crate) fn new(args: &Args) -> Result<Self> {
        fs::create_dir_all(&args.out)?;
        let path = args.out.join("raw.tsv");
        let mut raw = File::create(&path).with_context(|| path.display().to_string())?;
        writeln!(raw, "row\tpeer\trun\tvalue\tunit\tcpu\tstalls\ttrouble\tdetail")?;
        Ok(Self { dir: args.out.clone(), raw, runs: BTreeMap::new(), skipped: Vec::new() })
    }

    /// Takes what one run gave, and says so on standard error.
    pub(crate) fn add(
        &mut self,
        row: &Row,
        peer: Peer,
        run: u32,
        sample: Result<Sample>,
    ) -> Result<()> {
        let runs = self.runs.entry((row.name.clone(), peer)).or_default();
        let (name, peer) = (&row.name, peer.name());
        match sample {
            Ok(sample) => {
                let mut trouble = String::new();
                for (name, value) in sample.trouble.iter().filter(|(_, value)| **value != 0) {
                    write!(trouble, "{name}={value} ")?;
                }
                let (value, unit) = (figure(sample.value), row.unit);
                let cpu = sample.cpu.map(figure).unwrap_or_default();
                eprintln!(
                    "bench: {name}: {peer} {run}: {value} {unit} cpu={cpu} stalls={} {trouble}",
                    sample.stalls
                );
                writeln!(
                    self.raw,
                    "{name}\t{peer}\t{run}\t{}\t{unit}\t{cpu}\t{}\t{trouble}\t{}",
                    sample.value, sample.stalls, sample.detail
                )?;
                runs.samples.push(sample);
            }
            Err(e) => {
                eprintln!("bench: {name}: {peer} {run}: FAILED: {e:#}");
                writeln!(self.raw, "{name}\t{peer}\t{run}\t\t\t\t\t\tFAILED: {e:#}")?;
                runs.failed.push(format!("{e:#}"));
            }
        }
        Ok(())
    }

    /// Notes that a row cannot be measured here, and says so on standard error.
    pub(crate) fn skip(&mut self, row: &Row, why: &str) {
        eprintln!("bench: {}: SKIPPED: {why}", row.name);
        self.skipped.push((row.name.clone(), why.to_owned()));
    }

    /// Keeps the table beside the raw figures.
    pub(crate) fn save(&self, table: &str) -> Result<()> {
        fs::write(self.dir.join("table.md"), table)?;
        eprintln!("bench: table.md and raw.tsv are in {}", self.dir.display());
        Ok(())
    }

    fn runs(&self, row: &Row, peer: Peer) -> Option<&Runs> {
        self.runs.get(&(row.name.clone(), peer))
    }

    fn median(&self, row: &Row, peer: Peer, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let samples = &self.runs(row, peer)?.samples;
        median(samples.iter().filter_map(of).collect())
    }

    fn value(&self, row: &Row, peer: Peer) -> Option<f64> {
        self.median(row, peer, |sample| Some(sample.value))
    }

    fn sum(&self, row: &Row, peer: Peer, of: impl Fn(&Sample) -> u64) -> Option<u64> {
        Some(self.runs(row, peer)?.samples.iter().map(of).sum())
    }

    /// Median, then least and greatest; failed runs are counted beside it.
    fn cell(&self, row: &Row, peer: Peer) -> String {
        let Some(runs) = self.runs(row, peer) else { return String::from("–") };
        let values = || runs.samples.iter().map(|sample| sample.value);
        let mut text = match median(values().collect()) {
            None => String::from("failed"),
            Some(middle) if runs.samples.len() == 1 => figure(middle),
            Some(middle) => {
                let least = values().fold(f64::INFINITY, f64::min);
                let most = values().fold(f64::NEG_INFINITY, f64::max);
                format!("{} [{}..{}]", figure(middle), figure(least), figure(most))
            }
        };
        if !runs.failed.is_empty() && !runs.samples.is_empty() {
            let _ = write!(text, " ({} failed)", runs.failed.len());
        }
        text
    }

    /// The whole table, with the peers' versions above it and the failures below.
    pub(crate) fn table(&self, rows: &[Row], peers: &Peers) -> String {
        let head = [
            "row",
            "unit",
            "pasta",
            "c",
            "slirp4netns",
            "veth",
            "pasta/c",
            "pasta/veth",
            "cpu pasta",
            "cpu c",
            "cpu/c",
            "stalls p/c/s",
            "timeouts p/c/s/v",
            "target",
            "met",
        ];
        let mut lines = vec![head.map(String::from).to_vec()];
        for row in rows {
            let ours = self.value(row, Peer::Ours);
            let ratio = |peer| Some(ours? / self.value(row, peer).filter(|&theirs| theirs != 0.0)?);
            let cpu = |peer| self.median(row, peer, |sample| sample.cpu);
            let cpu_ratio = cpu(Peer::Ours).zip(cpu(Peer::C)).map(|(ours, c)| ours / c);
            let each = |of: &dyn Fn(&Sample) -> u64, peers: &[Peer]| {
                let show = |&peer: &Peer| {
                    self.sum(row, peer, of).map_or_else(|| String::from("–"), |n| n.to_string())
                };
                peers.iter().map(show).collect::<Vec<_>>().join("/")
            };
            let timeouts = |s: &Sample| s.trouble.get("TCPTimeouts").copied().unwrap_or(0);
            let show = |value: Option<f64>| value.map_or_else(|| String::from("–"), figure);
            lines.push(vec![
                row.name.clone(),
                row.unit.to_owned(),
                self.cell(row, Peer::Ours),
                self.cell(row, Peer::C),
                self.cell(row, Peer::Slirp),
                self.cell(row, Peer::Veth),
                show(ratio(Peer::C)),
                show(ratio(Peer::Veth)),
                show(cpu(Peer::Ours)),
                show(cpu(Peer::C)),
                show(cpu_ratio),
                each(&|s| s.stalls, &Peer::ALL[..3]),
                each(&timeouts, &Peer::ALL),
                describe(&row.target),
                self.verdict(row, ratio(Peer::C), ratio(Peer::Veth), cpu_ratio),
            ]);
        }
        let mut text = String::new();
        for note in &peers.notes {
            let _ = writeln!(text, "{note}");
        }
        text += "cpu: forwarder's seconds per GiB (TCP), microseconds per datagram (UDP) or transaction \
                 (RR, CRR). Medians [least..greatest]; stalls and timeouts are sums over all \
                 runs.\n\n";
        text += &align(&lines);
        for (row, why) in &self.skipped {
            let _ = writeln!(text, "skipped: {row}: {why}");
        }
        for ((row, peer), runs) in &self.runs {
            for why in &runs.failed {
                let _ = writeln!(text, "failed: {row}: {}: {why}", peer.name());
            }
        }
        for row in rows {
            for peer in Peer::ALL {
                let total =
                    |name| self.sum(row, peer, |s| s.trouble.get(name).copied().unwrap_or(0));
                let seen: Vec<_> = TROUBLE
                    .iter()
                    .filter_map(|name| {
                        total(name).filter(|&n| n > 0).map(|n| format!("{name}={n}"))
                    })
                    .collect();
                if peer == Peer::Ours && !seen.is_empty() {
                    let _ = writeln!(text, "counters: {}: {}", row.name, seen.join(" "));
                }
            }
        }
        text
    }

    /// `yes`, or which parts of the target were missed; `–` where there is nothing to compare.
    fn verdict(
        &self,
        row: &Row,
        to_c: Option<f64>,
        to_veth: Option<f64>,
        cpu_to_c: Option<f64>,
    ) -> String {
        let target = &row.target;
        let Some(runs) = self.runs(row, Peer::Ours) else { return String::from("–") };
        let Some(ours) = self.value(row, Peer::Ours) else { return String::from("FAILED") };
        let mut missed = Vec::new();
        let mut known = false;
        let mut check = |what, limit: Option<f64>, value: Option<f64>, at_least: bool| {
            if let Some((limit, value)) = limit.zip(value) {
                known = true;
                if (at_least && value < limit) || (!at_least && value > limit) {
                    missed.push(what);
                }
            }
        };
        check("c", target.min_c, to_c, true);
        check("c", target.max_c, to_c, false);
        check("veth", target.min_veth, to_veth, true);
        check("max", target.max, Some(ours), false);
        check("cpu", target.max_cpu_c, cpu_to_c, false);
        if target.no_stalls {
            known = true;
            let timeouts = |s: &Sample| s.trouble.get("TCPTimeouts").is_some_and(|&n| n > 0);
            if runs.samples.iter().any(|s| s.stalls > 0) {
                missed.push("stall");
            }
            if runs.samples.iter().any(timeouts) {
                missed.push("timeout");
            }
        }
        if !runs.failed.is_empty() {
            missed.push("failed run");
        }
        match (known, missed.is_empty()) {
            (_, false) => format!("NO: {}", missed.join(", ")),
            (true, true) => String::from("yes"),
            (false, true) => String::from("–"),
        }
    }
}

fn describe(target: &Target) -> String {
    let mut parts = Vec::new();
    let mut part = |limit: Option<f64>, sign: &str, of: &str| {
        if let Some(limit) = limit {
            parts.push(format!("{sign}{limit}{of}"));
        }
    };
    part(target.min_c, "≥", "c");
    part(target.max_c, "≤", "c");
    part(target.min_veth, "≥", "veth");
    part(target.max, "≤", "");
    part(target.max_cpu_c, "cpu≤", "c");
    parts.join(" ")
}

/// Three figures that matter.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0995 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(*upper);
    }
    Some((values.get(values.len() / 2 - 1)? + upper) / 2.0)
}

/// Columns padded to equal width, in the form Markdown knows as a table.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        lines.iter().filter_map(|l| l.get(column)).map(|c: &String| c.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text += "|\n";
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!(figure(12345.6), "12346");
        assert_eq!(figure(12.34), "12.3");
        assert_eq!(figure(0.123), "0.12");
        assert_eq!(figure(0.0123), "0.012");
        assert_eq!(figure(0.0), "0.00");
    }
}
